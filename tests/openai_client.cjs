// The official JavaScript client asks a service: address and key are given; what came is printed as JSON.
const OpenAI = require("openai");

async function main([address, key]) {
  const client = new OpenAI({ baseURL: `${address}/v1`, apiKey: key, maxRetries: 0 });
  const asked = { model: "mail", messages: [{ role: "user", content: "hello" }] };
  const whole = await client.chat.completions.create(asked);
  let streamed = "";
  let tokens = 0;
  const options = { ...asked, stream: true, stream_options: { include_usage: true } };
  for await (const chunk of await client.chat.completions.create(options)) {
    streamed += chunk.choices[0]?.delta.content ?? "";
    tokens = chunk.usage?.total_tokens ?? tokens;
  }
  const text = await client.completions.create({ model: "mail", prompt: "go on" });
  const models = [];
  for await (const model of client.models.list()) models.push(model.id);
  const errors = [];
  for (const changes of [{ model: "unknown" }, { n: 2 }]) {
    await client.chat.completions.create({ ...asked, ...changes }).catch((error) => errors.push(error.constructor.name));
  }
  const said = whole.choices[0].message.content;
  console.log(JSON.stringify({ said, by: whole.system_fingerprint, streamed, tokens, text: text.choices[0].text, models, errors }));
}

main(process.argv.slice(2));
