// What the pages do without loading anew. Every flow works without this file too.
//   form[data-swap=ID]      is sent in the background; the part with this id (and #notice) is taken from the answer
//   [data-poll=ADDRESS]     is fetched again every second until it has no such attribute, or the answer is elsewhere
//   form[data-advice=ADDRESS]  sends what stands in it shortly after typing, and shows the answer in #advice
//   form[data-most=BYTES]   is not sent if its texts and files are larger; data-too-much says so
//   [data-copy=ID], [data-print=ID]  buttons that only make sense here
"use strict";
(() => {
  const PATIENCE = 500, POLL = 1000, RETRY = 4000;
  const $ = (id) => document.getElementById(id);
  const parsed = (text) => new DOMParser().parseFromString(text, "text/html");

  function swap(page, id) {
    const fresh = page.getElementById(id), old = $(id);
    if (!fresh || !old) return null;
    old.replaceChildren(...fresh.childNodes);
    for (const name of ["data-poll", "data-again"]) {
      if (fresh.hasAttribute(name)) old.setAttribute(name, fresh.getAttribute(name));
      else old.removeAttribute(name);
    }
    return old;
  }

  function notice(text) {
    const box = document.createElement("div"), line = document.createElement("p");
    box.className = "notice bad";
    line.textContent = text;
    box.append(line);
    $("notice").replaceChildren(box);
    $("notice").scrollIntoView({ block: "nearest" });
  }

  function hold(form, on) {
    form.toggleAttribute("data-held", on);
    form.setAttribute("aria-busy", String(on));
    for (const button of form.querySelectorAll("button")) button.disabled = on;
  }

  function tooMuch(form) {
    const most = Number(form.dataset.most);
    if (!most) return false;
    let size = 0;
    for (const value of new FormData(form).values()) size += typeof value === "string" ? new Blob([value]).size : value.size;
    return size > most - 4096;
  }

  async function send(form, submitter) {
    const data = new FormData(form, submitter), id = form.dataset.swap;
    const multipart = form.enctype === "multipart/form-data";
    hold(form, true);
    $(id).classList.add("waiting");
    if (form.dataset.busy) {
      const line = document.createElement("p");
      line.className = "muted";
      line.textContent = form.dataset.busy;
      $(id).replaceChildren(line);
    }
    try {
      const answer = await fetch(form.action, { method: "POST", body: multipart ? data : new URLSearchParams(data) });
      const page = parsed(await answer.text());
      swap(page, "notice");
      if (answer.redirected || !swap(page, id)) {
        // Signed out, or another page: go there as a browser without this file would.
        if (answer.redirected) location.assign(answer.url);
        else form.submit();
      }
    } catch {
      form.submit();
    } finally {
      $(id).classList.remove("waiting");
      hold(form, false);
    }
  }

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.hasAttribute("data-held")) return event.preventDefault();
    if (tooMuch(form)) {
      event.preventDefault();
      return notice(form.dataset.tooMuch);
    }
    if (form.dataset.swap && $(form.dataset.swap)) {
      event.preventDefault();
      send(form, event.submitter);
    } else if (form.method === "post") {
      setTimeout(() => hold(form, true)); // after the browser has taken the pressed button's value along
    }
  });
  // A page that comes back from the browser's memory must not stay locked.
  addEventListener("pageshow", () => document.querySelectorAll("form[data-held]").forEach((form) => hold(form, false)));

  async function poll(part) {
    let pause = POLL;
    try {
      const answer = await fetch(part.dataset.poll);
      if (answer.redirected) return location.replace(answer.url);
      if (!swap(parsed(await answer.text()), part.id)) return location.reload();
    } catch {
      pause = RETRY; // the service restarts or the network is away: go on asking
    }
    if (part.dataset.poll) setTimeout(poll, pause, part);
  }
  document.querySelectorAll("[data-poll]").forEach((part) => setTimeout(poll, POLL / 2, part));

  document.querySelectorAll("form[data-advice]").forEach((form) => {
    let turn = 0, timer = 0;
    async function ask() {
      const mine = ++turn;
      if (tooMuch(form)) return notice(form.dataset.tooMuch);
      const data = new FormData(form);
      data.delete("rows");
      data.delete("rows_file");
      try {
        const answer = await fetch(form.dataset.advice, { method: "POST", body: data });
        if (mine !== turn || !answer.ok) return;
        const part = swap(parsed(await answer.text()), "advice");
        if (part && part.dataset.again) timer = setTimeout(ask, Number(part.dataset.again));
      } catch { /* advice is a help; typing goes on without */ }
    }
    const soon = (event) => {
      if (!["prompts", "prompts_file", "instruction"].includes(event.target.name)) return;
      clearTimeout(timer);
      timer = setTimeout(ask, PATIENCE);
    };
    form.addEventListener("input", soon);
    if ($("prompts") && $("prompts").value.trim()) ask();
  });

  document.querySelectorAll("[data-copy]").forEach((button) => {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const field = $(button.dataset.copy);
      field.select();
      try {
        await navigator.clipboard.writeText(field.value);
      } catch {
        document.execCommand("copy"); // plain http in a plant's network has no clipboard interface
      }
      button.textContent = button.dataset.copied;
    });
  });
  document.querySelectorAll("[data-print]").forEach((button) => {
    button.hidden = false;
    button.addEventListener("click", () => $(button.dataset.print).contentWindow.print());
  });
})();
