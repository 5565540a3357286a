"""Prompts of pictures and text: what a base reads of them, and adapters made of them."""

import io
import json
import unicodedata

import numpy as np
import pytest
import torch
from peft import PeftModel
from picture_bases import picture, picture_bytes, processor, tiny_model, write_picture_base
from PIL import ExifTags, Image
from tiny import greedy, tiny_generator, tiny_generator_config

from prompt2lora.adapter.hooks import adapted
from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.adapter.peft import Adapter
from prompt2lora.base import decoding, models
from prompt2lora.base.chat import ChatFormat
from prompt2lora.base.decoding import answers
from prompt2lora.base.frozen import Frozen
from prompt2lora.base.packing import pack_examples, stack
from prompt2lora.base.pictures import PictureReader, positions, soft_tokens
from prompt2lora.console import pdf
from prompt2lora.console.i18n import Translator
from prompt2lora.errors import Busy, InputError, ModelNotFound, UsageError
from prompt2lora.generator import alignment
from prompt2lora.generator.alignment import AlignmentOptions
from prompt2lora.generator.generator import Generator
from prompt2lora.generator.pipeline import Pipeline, fitting_layout
from prompt2lora.generator.text_encoder import cached_encoder
from prompt2lora.ground import pictures
from prompt2lora.ground.answer_sheet import read_answer_sheet
from prompt2lora.ground.examples import check_named, read_examples, read_prompts
from prompt2lora.ground.pictures import Pictured, checked
from prompt2lora.ground.tables import File

READ = ("llava", "fast_vlm", "idefics3", "qwen2_vl", "qwen2_5_vl")  # whose processors take no other library


def seeing(kind):
    """A tiny model with its processor's ways, before anything of ours is in it, and a frozen base of the same."""
    model, own = tiny_model(kind), processor(kind)
    model.generation_config.eos_token_id = own.tokenizer.eos_token_id
    reader = PictureReader(model, own)
    layout = LoraLayout.from_config(model.config, base_model="x")
    return Frozen(model, ChatFormat.of(model, reader.processor.tokenizer), layout)


def theirs(kind, text, *pictures):
    """Logits of the whole model, by its processor, for what follows a prompt."""
    model, own = tiny_model(kind), processor(kind)
    images = [one.image() for one in pictures]
    content = [*[{"type": "image"}] * len(images), {"type": "text", "text": text}]
    asked = own.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    given = own(text=[asked], images=images or None, return_tensors="pt", add_special_tokens=False)
    with torch.no_grad():
        return model(**given).logits[0, -1]


@pytest.mark.parametrize("kind", READ)
def test_pictures_are_read_as_the_whole_model_reads_them_also_in_packs(kind):
    base = seeing(kind)
    one, other = picture(1), picture(2)
    prompts = [Pictured("Which?", (one,)), Pictured("Which?", (other,)), "Which?", Pictured("Both?", (other, one))]
    ids = base.chat.prompt_ids(prompts)
    pack = pack_examples(ids, [[0]] * len(ids), 10_000)
    batch = stack([pack], base.chat.padding)
    with torch.no_grad():
        hidden = base.model.get_decoder()(**batch.inputs(base.model)).last_hidden_state
        ours = base.model.get_output_embeddings()(hidden[batch.place.unbind(1)])
    for row, prompt in zip(ours, prompts, strict=True):
        text, seen = (prompt, ()) if isinstance(prompt, str) else (prompt.text, prompt.pictures)
        assert torch.allclose(row, theirs(kind, text, *seen), atol=1e-4)
    assert (ours[0] - ours[1]).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["idefics3", "qwen2_vl"])
def test_answers_to_pictures_do_not_hang_on_the_other_prompts_of_their_batch(kind):
    base = seeing(kind)
    prompts = [Pictured("A long question?", (picture(1),)), "Short?", Pictured("Both?", (picture(2), picture(1)))]
    together = answers(base.model, base.chat, prompts, max_new_tokens=5)
    alone = [answers(base.model, base.chat, [prompt], max_new_tokens=5)[0] for prompt in prompts]
    assert together == alone
    shown = [(Pictured("This?", (picture(3),)), "a cat")]
    after = answers(base.model, base.chat, prompts, examples=shown, max_new_tokens=5)
    assert after == [answers(base.model, base.chat, [one], examples=shown, max_new_tokens=5)[0] for one in prompts]


def test_the_same_picture_has_the_same_tokens_and_another_one_none_of_them():
    chat = seeing("llava").chat
    first, again, other = chat.prompt_ids([Pictured("x", (picture(seed),)) for seed in (1, 1, 2)])
    assert first == again
    assert soft_tokens(first) == 16
    assert {one for one in first if one > 300} & {*other} == set()


def test_positions_move_by_one_behind_a_word_and_by_the_longest_side_behind_a_picture_in_three_axes():
    chat = seeing("qwen2_vl").chat
    ids = chat.prompt_ids([Pictured("x", (picture(1),))])[0]
    assert positions([5, 6]) == [0, 1, 2]
    assert soft_tokens(ids) == 6  # 12 x 10 pixels: 3 x 2 pieces of 4 x 4
    assert positions(ids)[-1] == len(ids) - 6 + 3


def test_forgotten_pictures_are_read_anew(monkeypatch):
    monkeypatch.setattr("prompt2lora.base.pictures._MOST_TOKENS", 20)
    base = seeing("llava")
    prompts = [Pictured("x", (picture(seed),)) for seed in (1, 2, 1)]
    given = [answers(base.model, base.chat, [prompt], max_new_tokens=3)[0] for prompt in prompts]
    assert given[0] == given[2]
    with pytest.raises(Busy, match="these have more"):
        answers(base.model, base.chat, prompts[:2], max_new_tokens=3)


@pytest.mark.parametrize("kind", ["llava", "qwen2_vl"])
def test_more_pictures_than_are_kept_are_answered_batch_by_batch(kind, monkeypatch):
    monkeypatch.setattr(decoding, "BATCH", 1)
    prompts = [Pictured("x", (picture(seed),)) for seed in (1, 2, 3)]
    base = seeing(kind)
    whole = answers(base.model, base.chat, prompts, max_new_tokens=3)
    monkeypatch.setattr("prompt2lora.base.pictures._MOST_TOKENS", 17)
    base = seeing(kind)
    assert answers(base.model, base.chat, prompts, max_new_tokens=3) == whole
    ids = base.chat.prompt_ids(prompts)
    del prompts
    with pytest.raises(Busy, match="one was forgotten"):
        greedy(base.model, ids[:1], base.chat, 3)


def test_alignment_reads_fewer_prompts_where_pictures_have_many_tokens_and_always_one(monkeypatch):
    base = seeing("llava")
    prompts = [Pictured(f"Name it.\n\nWhich? {seed}", (picture(seed),)) for seed in range(4)]

    def count(budget):
        options = AlignmentOptions(budget=budget, max_new_tokens=1)
        return len(alignment.read_prompts(base, torch.zeros(base.layout.shape), prompts, options).prompts)

    assert count(110) == 4
    monkeypatch.setattr(alignment, "_MOST_SOFT", 20)
    assert 1 < count(110) < 4
    assert count(1) == 1


def test_what_a_user_writes_is_no_place_of_a_picture():
    chat = seeing("llava").chat
    assert soft_tokens(chat.prompt_ids(["<image>"])[0]) == 0
    assert soft_tokens(chat.prompt_ids([Pictured("<image>", (picture(1),))])[0]) == 16


def test_a_base_that_reads_text_alone_refuses_pictures(chat):
    with pytest.raises(UsageError, match="reads only text, and a prompt holds a picture"):
        chat.prompt_ids([Pictured("Which?", (picture(1),))])


@pytest.fixture(scope="module")
def picture_base(tmp_path_factory):
    return write_picture_base(tmp_path_factory.mktemp("models") / "llava", "llava")


def test_a_base_on_disk_is_loaded_whole_with_its_processor(picture_base):
    model, words = models.load_base(picture_base, dtype=torch.float32)
    chat = ChatFormat.of(model, words)
    ids = chat.prompt_ids([Pictured("Which?", (picture(1),))])[0]
    assert torch.allclose(
        model(input_ids=torch.tensor([ids])).logits[0, -1], theirs("llava", "Which?", picture(1)), atol=1e-4
    )


def test_a_processor_that_takes_a_library_that_is_missing_says_which(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "find_spec", lambda _: None)
    tiny_model("smolvlm").save_pretrained(tmp_path)
    with pytest.raises(ModelNotFound, match="needs torchvision and num2words; pip install torchvision num2words"):
        models.load_base(str(tmp_path))


@pytest.fixture
def pipeline(picture_base, encoder_folder):
    layout = LoraLayout.from_config(models.load_config(picture_base), base_model=picture_base)
    made = tiny_generator(tiny_generator_config(layout, encoder_folder, asks_base=True))
    return Pipeline(made, cached_encoder(encoder_folder), layout)


def digits(*seeds):
    return [Pictured("Name the digit.\n\nWhich?", (picture(seed),)) for seed in seeds]


def test_conditions_and_adapters_hang_on_the_pictures_and_not_on_their_order(pipeline):
    one, other = pipeline.conditions(digits(1, 2)), pipeline.conditions(digits(1, 3))
    assert torch.equal(one[0], other[0])
    assert not torch.allclose(one[1], other[1], atol=1e-3)
    assert torch.equal(one[0, :16], one[1, :16])  # the encoder's part knows the text alone
    made, again, another = (pipeline.make(digits(*seeds)) for seeds in ((1, 2), (2, 1), (1, 3)))
    assert made.instruction == "Name the digit."
    assert torch.allclose(made.grid, again.grid, atol=1e-5)
    assert not torch.allclose(made.grid, another.grid, atol=1e-5)


def test_an_adapter_made_of_pictures_loads_into_the_whole_model_with_peft(pipeline, picture_base, tmp_path):
    examples = [(prompt, right) for prompt, right in zip(digits(1, 2), ["one", "two"], strict=True)]
    told = pipeline.write([], tmp_path / "a", examples=examples)
    assert (told.examples, told.instruction) == (2, "Name the digit.")
    assert "AutoModelForImageTextToText" in (tmp_path / "a" / "README.md").read_text()
    loaded = Adapter.load(tmp_path / "a", models.load_config(picture_base))
    assert len(set(loaded.provenance["learned"])) == 2  # the same question about two pictures
    peft = PeftModel.from_pretrained(tiny_model("llava"), tmp_path / "a")
    given = processor("llava")(text=["<image>x"], images=[picture(3).image()], return_tensors="pt")
    with torch.no_grad(), adapted(tiny_model("llava"), loaded.grid[None], loaded.layout) as ours:
        expected = ours(**given).logits
        assert torch.allclose(peft(**given).logits, expected, atol=1e-4)
    assert (tiny_model("llava")(**given).logits - expected).abs().max() > 1e-3


def test_the_generator_of_a_text_base_serves_a_base_that_holds_the_same_language_model(pipeline, tmp_path):
    text = models.load_config(pipeline.layout.base_model).text_config
    text.save_pretrained(tmp_path / "text")
    alone = LoraLayout.from_config(text, base_model="text")
    made = Generator(tiny_generator_config(alone, "x"), seed=1)
    layout = fitting_layout(made, pipeline.layout.base_model)
    assert (layout.stem, alone.stem) == ("model.language_model.layers", "model.layers")
    assert layout.shape == alone.shape


def written(folder, lines, pictures=(1, 2)):
    for seed in pictures:
        (folder / f"{seed}.png").write_bytes(picture_bytes(seed))
    file = folder / "job.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return file


def test_a_file_of_prompts_names_its_pictures_beside_it(tmp_path):
    lines = [
        {"instruction": "Name the digit.", "input": "Which?", "image": "1.png", "output": "1"},
        {"instruction": "Name the digit.", "input": "Which?", "image": "./2.png", "output": "2"},
        {"prompt": "No picture?"},
    ]
    file = written(tmp_path, lines)
    prompts, reading = read_prompts(file)
    assert prompts == [*digits(1, 2), "No picture?"]
    assert (reading.count, reading.first[0]) == (3, "Name the digit.\n\nWhich?")
    pairs, _ = read_examples(written(tmp_path, lines[:2]), part="train")
    assert pairs == list(zip(digits(1, 2), ("1", "2"), strict=True)), "under the instruction of their own line"


@pytest.mark.parametrize(
    "image, said",
    [
        ("3.png", "the image 3.png cannot be read"),
        ("job.jsonl", "a picture must be PNG or JPEG or WEBP, and this is not"),
        ("half.png", "a picture must be PNG or JPEG or WEBP, and this is not, or only part of one"),
        ("../1.png", "must lie below the folder of its file"),
        ("/etc/passwd", "must lie below the folder of its file"),
        ("large.png", "a picture may have 10,000 pixels and this one has 10,100"),
        ("heavy.png", "a picture may have 0 MB and this one has more"),
        ("no\0file", "cannot be read"),
        (7, "image must be the path of a picture"),
        ("", "image must be the path of a picture"),
    ],
)
def test_a_picture_that_cannot_be_taken_is_told_in_one_line_with_its_place(image, said, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "MOST_PIXELS", 10_000)
    monkeypatch.setattr(pictures, "MOST_BYTES", 40_000)
    (tmp_path / "half.png").write_bytes(picture_bytes(1)[:-40])
    (tmp_path / "large.png").write_bytes(picture_bytes(1, 101, 100))
    (tmp_path / "heavy.png").write_bytes(picture_bytes(1, 150, 150))
    file = written(tmp_path, [{"prompt": "x", "image": "1.png"}, {"prompt": "Which?", "image": image}])
    with pytest.raises(InputError) as told:
        read_prompts(file)
    assert said in str(told.value)
    assert f"{file}:2" in str(told.value)


def test_a_picture_may_be_png_jpeg_or_webp_and_nothing_else():
    for form in ("PNG", "JPEG", "WEBP"):
        assert checked(picture_bytes(1, form=form), "x").image().size == (12, 10)
    for form in ("GIF", "BMP", "TIFF"):
        with pytest.raises(InputError, match="this is not"):
            checked(picture_bytes(1, form=form), "x")


def test_a_photo_is_seen_upright_however_the_camera_was_held():
    turned, out = Image.Exif(), io.BytesIO()
    turned[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (40, 20)).save(out, "JPEG", exif=turned)
    photo = checked(out.getvalue(), "photo.jpg")
    assert photo.image().size == Image.open(io.BytesIO(photo.thumbnail())).size == (20, 40)


def test_a_picture_of_16_bits_of_grey_keeps_its_shades():
    shades, out = np.arange(2**16, dtype=np.uint16).reshape(2**8, 2**8), io.BytesIO()
    Image.fromarray(shades).save(out, "PNG")
    seen = np.asarray(checked(out.getvalue(), "camera.png").image())
    assert (seen == (shades >> 8)[..., None]).all()


def test_half_a_picture_is_none_where_reports_are_made_as_pdf_too():
    pdf.can_write()
    with pytest.raises(InputError, match="this is not, or only part of one"):
        checked(picture_bytes(1)[:-40], "half.png")


def test_the_command_line_makes_an_adapter_of_pictures(pipeline, picture_base, tmp_path, run):
    pipeline.generator.save_pretrained(tmp_path / "generator")
    lines = [{"instruction": "Name it.", "input": "Which?", "image": f"{seed}.png"} for seed in (1, 2)]
    words = ["generate", "--prompts", written(tmp_path, lines), "--out", tmp_path / "a"]
    code, out, told = run(*words, "--generator", tmp_path / "generator")
    assert code == 0, told
    assert "from 2 prompts" in out
    assert Adapter.load(tmp_path / "a", models.load_config(picture_base)).changes_something


def test_one_can_ask_about_pictures(picture_base, base, tmp_path, run):
    words = []
    for number in (1, 2):
        (tmp_path / f"{number}.png").write_bytes(picture(number).data)
        words += ["--image", tmp_path / f"{number}.png"]
    asked = ["ask", "What is it?", "--max-new-tokens", "4", "--json", "--base"]
    said = {}
    for count in (0, 1, 2):
        code, shown, told = run(*asked, picture_base, *words[: 2 * count])
        assert code == 0, told
        said[count] = json.loads(shown)["answer"]
    loaded, tokenizer = models.load_base(picture_base)
    (expected,) = answers(
        loaded, ChatFormat.of(loaded, tokenizer), [Pictured("What is it?", (picture(1), picture(2)))], max_new_tokens=4
    )
    assert said[2] == expected
    assert len(set(said.values())) > 1
    for place, remedy in ((tmp_path / "3.png", "cannot be read"), (tmp_path, "cannot be read")):
        code, _, told = run(*asked, picture_base, "--image", place)
        assert (code, remedy in told) == (2, True), told
    code, _, told = run(*asked, base, *words[:2])
    assert (code, "only text" in told) == (2, True), told


def test_a_table_names_pictures_in_a_column_and_json_may_hold_them(tmp_path):
    (tmp_path / "1.png").write_bytes(picture_bytes(1))
    file = tmp_path / "job.csv"
    file.write_text("画像,入力,正解\n1.png,Which?,one\n,Who?,two\n", encoding="utf-8")
    expected = [Pictured("Which?", (picture(1),)), "Who?"]
    assert read_prompts(file)[0] == expected
    assert read_examples(file)[0] == list(zip(expected, ["one", "two"], strict=True))
    line = json.dumps({"prompt": "Which?", "image": picture(1).data_url})
    assert read_prompts(File("typed.jsonl", text=line))[0] == expected[:1]
    with pytest.raises(InputError, match=r"typed.jsonl:1: the data URL is not base64"):
        read_prompts(File("typed.jsonl", text=line.replace("base64,", "base64,*")))


TEXTS_ALONE = [
    ("job.csv", "image,input,output\nblurred,a,b\n,c,d\nsee note 3,e,f\n"),
    ("job.csv", "画像,入力,正解\nなし,a,b\nあり,c,d\n3 枚,e,f\n"),
    ("job.jsonl", '{"input": "a", "output": "b", "image": "blurred"}\n{"input": "c", "output": "d", "image": 7}\n'),
]


@pytest.mark.parametrize("name, text", TEXTS_ALONE)
def test_a_column_that_is_called_image_and_names_no_pictures_is_a_column_like_any_other(name, text):
    head = "画像" if "画像" in text else "image"
    prompts, reading = read_prompts(File(name, text.encode()))
    pairs, read = read_examples(File(name, text.encode()))
    assert prompts == [prompt for prompt, _ in pairs] and prompts[:2] == ["a", "c"]
    for one in (reading, read):
        assert (one.pictures, one.no_pictures, one.is_plain) == ("", head, False)
        assert f"column '{head}' names no pictures (1.png, data:image/png;...) and is passed over" in str(one)
        assert one.to_dict()["pictures"] is None
        assert all(
            f"“{head}”" in said or f"「{head}」" in said
            for said in (Translator("en").read(one), Translator("ja").read(one))
        )


def test_it_can_be_the_column_of_the_texts_themselves():
    file = File("job.csv", b"image,input\nan old photo.png,1\na drawing.png,2\n")
    assert read_prompts(file, column="image")[0] == ["an old photo.png", "a drawing.png"]


def test_where_some_values_look_like_pictures_and_others_do_not_the_wrong_one_is_told():
    file = File("job.csv", b"image,input\n1.png,a\n2png,b\n")
    with pytest.raises(InputError, match=r"job.csv:3: the image 2png was not sent"):
        read_prompts(file, pictures={"1.png": picture_bytes(1)})


def test_what_was_taken_of_a_table_says_where_its_pictures_come_from():
    table = b"image,input\n1.png,Which?\n2.PNG,Who?\n"
    sent = {"1.png": picture_bytes(1), "2.PNG": picture_bytes(2)}
    _, reading = read_prompts(File("job.csv", table), pictures=sent)
    assert "; pictures of column 'image'; 2 prompts" in str(reading)
    assert reading.to_dict()["pictures"] == "image"
    assert "column “image”" in Translator("en").read(reading) and "列「image」" in Translator("ja").read(reading)
    sheet = read_answer_sheet(File("job.csv", table))
    assert "pictures of column 'image', which are not looked at; 2 texts" in str(sheet.reading)
    assert "not looked at" in Translator("en").read(sheet.reading)


def test_a_picture_that_many_rows_name_is_looked_at_and_kept_once(tmp_path):
    (tmp_path / "1.png").write_bytes(picture_bytes(1))
    rows = "image,input,output\n" + "1.png,Which?,one\n" * 5
    (tmp_path / "job.csv").write_text(rows)
    for source, sent in ((tmp_path / "job.csv", {}), (File("job.csv", rows.encode()), {"1.png": picture_bytes(1)})):
        for prompts in (
            read_prompts(source, pictures=sent)[0],
            [one for one, _ in read_examples(source, pictures=sent)[0]],
        ):
            assert len(prompts) == 5 and len({id(prompt.pictures[0]) for prompt in prompts}) == 1


def test_pictures_that_come_along_are_known_by_their_names(tmp_path):
    file = File("job.csv", "image,input\npictures/ガ.png,Which?\nC:\\x\\2.png,Who?\n".encode())
    sent = {"2.png": picture_bytes(2), unicodedata.normalize("NFD", "ガ.png"): picture_bytes(1)}
    prompts, _ = read_prompts(file, "Look.", pictures=sent)
    assert prompts == [Pictured("Look.\n\nWhich?", (picture(1),)), Pictured("Look.\n\nWho?", (picture(2),))]
    check_named(sent, prompts)
    with pytest.raises(InputError, match=r"the picture 3.png was sent, and no prompt or example names it"):
        check_named({**sent, "3.png": picture_bytes(3)}, prompts)
    with pytest.raises(InputError, match=r"job.csv:2: the image .*ガ.png was not sent \(these came along: 2.png\)"):
        read_prompts(file, pictures={"2.png": picture_bytes(2)})
    with pytest.raises(InputError, match=r"job.csv:2: the image .*ガ.png was not sent \(no pictures came along\)"):
        read_prompts(file)
