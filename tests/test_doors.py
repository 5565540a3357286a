"""The same prompts and examples come out of every kind of file, through every door; how they were read is told."""

import csv
import datetime
import io
import json
import re
import zipfile

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import as_csv

from prompt2lora.errors import InputError
from prompt2lora.ground.answer_sheet import RowAnswer, read_answer_sheet
from prompt2lora.ground.examples import read_examples, read_prompts
from prompt2lora.ground.tables import File

PASTED = {
    "id,note,date\n1,seal replaced,2026-01-02\n2,valve fitted,2026-01-03\n": ["seal replaced", "valve fitted"],
    "id;note;date\n1;seal, replaced;2026\n2;valve fitted;2026\n": ["seal, replaced", "valve fitted"],
    "番号\t報告\n1\tポンプ交換\n2\tバルブ\n3\tガス漏れ": ["ポンプ交換", "バルブ", "ガス漏れ"],
    "1\tseal replaced\n2\tvalve fitted\n3\toil changed": ["seal replaced", "valve fitted", "oil changed"],
    "Note, the pump is hot.\nThe seal leaks.\n": ["Note, the pump is hot.", "The seal leaks."],
    "Message, please classify: it leaks\nMessage, please classify: hot\n": [
        "Message, please classify: it leaks",
        "Message, please classify: hot",
    ],
    "Question, is it hot?\nSo, does it leak?\n": ["Question, is it hot?", "So, does it leak?"],
    "One, two.\nThree, four.\n": ["One, two.", "Three, four."],
    "a\tb": ["a\tb"],
}

PAIRS = [
    *((f"ポンプ{n}のシール交換、部品 KX-{4800 + n}; 漏れなし", f"KX-{4800 + n}") for n in range(8)),
    *((f'Conveyor {n} says "stop", again; motor MT-{n}', f"MT-{n}") for n in range(8)),
    ("two lines:\nthe second, here", "a; b"),
    ('"Quoted" at the front', '"x"'),
    ("ｶﾅ and 漢字 and ~ and \\", "１２"),
    ("tab\there", "1,5"),
]
INPUTS = [text for text, _ in PAIRS]
ENCODINGS = {
    "utf-8": "UTF-8",
    "utf-8-sig": "UTF-8 with mark",
    "utf-16": "UTF-16",
    "cp932": "Shift-JIS",
    "euc_jp": "EUC-JP",
    "iso2022_jp_ext": "ISO-2022-JP",
}
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
HEADERS = [("input", "output"), ("入力", "正解")]


@pytest.mark.parametrize(("text", "prompts"), PASTED.items())
def test_a_table_that_is_pasted_is_read_as_the_table_and_lines_with_commas_are_lines(text, prompts):
    for file in (File("pasted", text=text), File("a.txt", text.encode())):
        assert read_prompts(file)[0] == prompts


def separated(rows, delimiter, ending="\r\n"):
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter, lineterminator=ending).writerows(rows)
    return out.getvalue()


def excel(*rows, sheets=()):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    for sheet in sheets:
        book.create_sheet(sheet)
    return saved(book)


def saved(book):
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def files():
    """(file name, bytes, what is said of the file)"""
    for header in HEADERS:
        rows = [header, *PAIRS]
        for delimiter, said in DELIMITERS.items():
            for codec, named in ENCODINGS.items():
                yield (
                    f"a.{'tsv' if delimiter == chr(9) else 'csv'}",
                    separated(rows, delimiter).encode(codec),
                    said,
                    named,
                )
        wide = [(n, *row) for n, row in enumerate([header, *PAIRS])]
        yield "a.csv", separated([("", *header), *wide[1:]], ";", "\n").encode("cp932"), "semicolons", "Shift-JIS"
        yield "a.txt", separated(rows, "\t").encode("utf-16"), "tabs", "UTF-16"  # Excel's "Unicode text"
        yield "a.xlsx", excel(*rows), "Excel", ""
        lines = "\n".join(json.dumps(dict(zip(header, pair, strict=True)), ensure_ascii=False) for pair in PAIRS)
        for codec, named in ENCODINGS.items():
            yield "a.jsonl", lines.encode(codec), "JSONL", named
        yield "a.txt", lines.encode(), "JSONL", "UTF-8"


@pytest.mark.parametrize(("name", "data", "form", "encoding"), list(files()))
def test_the_same_values_come_out_of_every_format_encoding_and_delimiter(name, data, form, encoding):
    prompts, told = read_prompts(File(name, data))
    assert prompts == INPUTS
    pairs, said = read_examples(File(name, data))
    assert pairs == PAIRS
    assert told.encoding == said.encoding == encoding
    assert form in str(told) and "20 prompts" in str(told) and "20 examples" in str(said)
    assert told.is_plain == (form == "JSONL" and encoding == "UTF-8")
    assert json.loads(json.dumps(said.to_dict()))["examples"] == 20


LINES = [text for text in INPUTS if "\n" not in text]


@pytest.mark.parametrize("codec", ENCODINGS)
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_a_text_gives_a_prompt_a_line_in_every_encoding(codec, ending):
    prompts, told = read_prompts(File("p.txt", (ending.join(LINES) + ending).encode(codec)))
    assert prompts == LINES
    assert told.encoding == ENCODINGS[codec] and "one a line" in str(told)


@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_what_is_pasted_from_a_spreadsheet_is_read_as_a_file_is(delimiter):
    assert read_examples(File("pasted", text=separated(PAIRS, delimiter)))[0] == PAIRS
    assert read_examples(File("pasted", text=as_csv(PAIRS)))[0] == PAIRS


@pytest.mark.parametrize("codec", ["cp932", "euc_jp"])
@settings(max_examples=150, deadline=None)
@given(st.text("あいんアケン漏電検査部品番号ー。、ｱﾊﾞ１Ａ aZ-4,", min_size=2), st.sampled_from("あケんン"))
def test_a_text_with_kana_is_read_as_it_was_written_in_shift_jis_and_in_euc_jp(codec, text, kana):
    text = " ".join(f"{kana}{text}".split())
    prompts, told = read_prompts(File("p.txt", text.encode(codec)))
    assert (prompts, told.encoding) == ([text], ENCODINGS[codec])


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        ("ﾎﾟﾝﾌﾟ,ﾓｰﾀ", "cp932"),  # of half-width kana alone, as old machines write
        ("ｶﾞｽ ｹﾞｰｼﾞ", "cp932"),
        ("検査記録 漏電 交換済 油圧 冷却 点検", "cp932"),
        ("検査記録 漏電 交換済 油圧 冷却 点検", "euc_jp"),
        ("①㈱ 部品 №3 検査", "euc_jis_2004"),
        ("モーター①", "euc_jis_2004"),
    ],
)
def test_japanese_without_kana_is_told_by_where_voicing_marks_stand(text, codec):
    prompts, told = read_prompts(File("p.txt", text.encode(codec)))
    assert (prompts, told.encoding) == ([text], "Shift-JIS" if codec == "cp932" else "EUC-JP")


SENTENCES = ["Hello, world", "One, two, three", "None"]

# Which delimiter fits: (the file, the prompts that it holds, columns of how many)
DIALECTS = {
    "one column of sentences": ("\n".join(SENTENCES), SENTENCES, 1),
    "one column under a name": ("input\n" + "\n".join(SENTENCES), SENTENCES, 1),
    "sentences with one comma each": ("Hello, world\nBye, moon\n", ["Hello, world", "Bye, moon"], 1),
    "one sentence": ("Hello,world\n", ["Hello,world"], 1),
    "quoted sentences": ('input\n"Hello, world"\n"a; b; c"\n', ["Hello, world", "a; b; c"], 1),
    "a name decides": ("id;prompt\n1;a, b\n2;c, d, e\n", ["a, b", "c, d, e"], 2),
    "a name after quoted ones": ('"no";"input";"output"\n"1";"a,b";"x"\n', ["a,b"], 3),
    "decimal commas": ("a;1,5\nb;2,5\n", ["a", "b"], 2),
    "a table without names": ("a,1\nb,2\n", ["a", "b"], 2),
    "tabs beat what sentences hold": ("a, b; c\t1\nd, e; f\t2\n", ["a, b; c", "d, e; f"], 2),
    "a line break in a cell": ('input;output\n"a;\nb";1\nc;2\n', ["a;\nb", "c"], 2),
    "a quote within a word": ('input,output\n5" screw,1\n3" nut,2\n', ['5" screw', '3" nut'], 2),
    "words after a quote": ('input\n"Stop" he said, and left\nyes\n', ['"Stop" he said, and left', "yes"], 1),
    "names in capitals with spaces": ("ID , Input \n1,a\n", ["a"], 2),
    "empty cells at the end": ("input,,\na,,\nb,,\n", ["a", "b"], 3),
    "both prompt and input": ("input,prompt\nx,a\ny,b\n", ["a", "b"], 2),
    "an instruction beside": ("instruction,input\nDo.,x\n,y\n", ["Do.\n\nx", "y"], 2),
    "German words": ("input;output\nGrößer;ja\n", ["Größer"], 2),
}


@pytest.mark.parametrize("case", DIALECTS)
def test_the_delimiter_is_the_one_that_fits(case):
    text, prompts, width = DIALECTS[case]
    found, told = read_prompts(File("p.csv", text.encode()))
    assert (found, told.width) == (prompts, width)


@pytest.mark.parametrize(
    ("text", "prompts"),
    [
        ("Text, please\nInput; now\n", ["Text, please", "Input; now"]),
        ("a;b\nc;d\n", ["a;b", "c;d"]),
        ("input;output\na, b;x\n", ["a, b"]),
        ("入力\t正解\n一つ\t1\n", ["一つ"]),
        ('{"sensor": 3}\n{"sensor": 4}\n', ['{"sensor": 3}', '{"sensor": 4}']),
        ('{"id": 1, "input": "x"}\n', ["x"]),
        ("text\nmore\n", ["text", "more"]),
    ],
)
def test_a_text_is_a_table_only_if_it_begins_as_one(text, prompts):
    assert read_prompts(File("p.txt", text.encode()))[0] == prompts


def test_a_task_file_gives_its_training_inputs_as_prompts_and_its_test_rows_as_examples():
    lines = [{"task": "t", "instruction": "Do."}, {"input": "x", "output": "1", "part": "train"}]
    lines += [{"input": "y", "output": "2", "part": "test"}]
    file = File("t.jsonl", "\n".join(map(json.dumps, lines)).encode())
    prompts, told = read_prompts(file)
    assert prompts == ["Do.\n\nx"] and "left out: 1 of the part test" in str(told)
    assert read_examples(file)[0] == [("y", "2")]
    assert read_prompts(file, "Do.")[0] == ["Do.\n\nx"], "an instruction is not put before itself"


def test_a_column_that_recurs_is_not_taken_for_the_texts_beside_it():
    rows = [("日付", "担当", "報告"), *((f"2026-11-0{n}", "AB"[n % 2] + "班", f"pump {n} leaks") for n in range(1, 6))]
    prompts, told = read_prompts(File("r.xlsx", excel(*rows)), "")
    assert (told.columns, len(prompts)) == (("報告",), 5)
    same = [("担当", "報告"), *(("A班", "no water"),) * 4]
    assert read_prompts(File("r.xlsx", excel(*same)), "")[1].columns in (("担当",), ("1",)), "none differs: the first"


def test_excel_gives_what_one_reads_in_its_cells():
    day = datetime.datetime(2026, 1, 5)
    rows = [("input", "output"), (day, 40.0), (day.replace(hour=9), True), (0.1 + 0.2, datetime.time(9, 30))]
    pairs, told = read_examples(File("e.xlsx", excel(*rows, sheets=["other"])))
    assert pairs == [("2026-01-05", "40"), ("2026-01-05 09:00:00", "TRUE"), ("0.3", "09:30:00")]
    assert "sheet 'Sheet', the first of 2" in str(told)


def test_a_title_above_the_header_of_a_spreadsheet_is_left_out_and_that_is_said():
    rows = [("点検の記録 2026",), (), (None, "番号", "入力", "正解"), (None, 1, "a", "x"), (None, 2, "b", 7)]
    pairs, told = read_examples(File("e.xlsx", excel(*rows)))
    assert pairs == [("a", "x"), ("b", "7")]
    assert str(told).endswith("columns '入力' and '正解' of 4; 2 examples (rows 4-5); left out: 1 above the header")


def test_a_table_without_a_known_name_is_read_from_its_first_row_and_that_is_said():
    prompts, told = read_prompts(File("p.csv", b"Frage;Antwort\na;1\n"))
    assert prompts == ["Frage", "a"]
    assert "column 1 of 2 from the first row on, for no column has a known name" in str(told)


NOTES = [("番号", "報告", "担当"), *((n, f"ポンプ{n}のシール交換", "山") for n in range(1, 13))]


@pytest.mark.parametrize(
    ("value", "number_format", "shown"),
    [
        (4711, "000000", "004711"),
        (4711, '"KX-"000000', "KX-004711"),
        (0.075, "0.0%", "7.5%"),
        (0.075, "0 %", "8 %"),
        (3.14159, "0.0", "3.1"),
        (3.0, "0.0#", "3.0"),
        (1.005, "0.00", "1.01"),
        (1234.5, "#,##0.00", "1234.50"),
        (-1234.5, "#,##0.00 [$€-407];[Red]-#,##0.00 [$€-407]", "-1234.50 €"),
        (-12, "#,##0_);(#,##0)", "(12)"),
        (-0.5, "0.0%", "-50.0%"),
        (0, '0;-0;"none"', "none"),
        (1e300, "0", "1" + "0" * 300),
        (4006381333931, "General", "4006381333931"),
        (1e-7, "General", "0.0000001"),
        (0.5, "# ?/?", "0.5"),
        (1500, "0.00E+00", "1500"),
        (1500, "000-000", "1500"),
        (datetime.timedelta(hours=30, minutes=5), "[h]:mm", "30:05"),
        (datetime.timedelta(hours=30, minutes=5, seconds=7), "[hh]:mm:ss;@", "30:05:07"),
        (datetime.timedelta(minutes=90), "[mm]:ss", "90:00"),
        (datetime.date(2026, 3, 1), "dd.mm.yyyy", "2026-03-01"),
    ],
)
def test_a_cell_of_excel_is_read_as_its_format_shows_it(value, number_format, shown):
    book = openpyxl.Workbook()
    book.active.append(("the cell", value))
    book.active.cell(1, 2).number_format = number_format
    assert read_examples(File("e.xlsx", saved(book)))[0] == [("the cell", shown)]


def test_the_first_sheet_that_excel_shows_is_read_and_answered():
    book = openpyxl.Workbook()
    book.active.append(("input", "output"))
    book.active.append(("old", "x"))
    book.active.sheet_state = "hidden"
    for name in ("notes", "more"):
        book.create_sheet(name).append(("Used KX-1", "KX-1"))
    book.active = 1
    file = File("e.xlsx", saved(book))
    pairs, told = read_examples(file)
    assert pairs == [("Used KX-1", "KX-1")]
    assert "sheet 'notes', the first of 2" in str(told)
    answered = openpyxl.load_workbook(io.BytesIO(read_answer_sheet(file).filled({1: RowAnswer("KX-1")})))
    assert [answered[name].max_column for name in answered.sheetnames] == [2, 3, 2]


@pytest.mark.parametrize("delimiter", ["", *DELIMITERS])
def test_a_header_above_numbers_is_a_header_and_a_numbering_is_no_prompt(delimiter):
    rows = [[str(cell) for cell in row] for row in NOTES]
    file = File("p.csv", separated(rows, delimiter).encode()) if delimiter else File("p.xlsx", excel(*NOTES))
    prompts, told = read_prompts(file)
    assert prompts == [row[1] for row in NOTES[1:]]
    assert "column '報告' of 3; 12 prompts (rows 2-13)" in str(told)
    assert told.names == NOTES[0] and told.first == tuple(prompts[:3])


@pytest.mark.parametrize("head", [("番号", "報告", "正解"), ("番号", "正解", "報告"), ("正解", "番号", "報告")])
def test_right_answers_are_never_read_as_prompts_wherever_their_column_stands(head):
    cells = [{"番号": n, "報告": f"note {n}", "正解": f"KX-{n}"} for n in range(1, 5)]
    file = File("p.xlsx", excel(head, *([row[name] for name in head] for row in cells)))
    prompts, told = read_prompts(file)
    assert prompts == [row["報告"] for row in cells] and "column '報告' of 3; 4 prompts" in str(told)
    pairs, told = read_examples(file)
    assert pairs == [(row["報告"], row["正解"]) for row in cells]
    assert "columns '報告' and '正解' of 3; 4 examples" in str(told)


@pytest.mark.parametrize("column", ["担当", "3", " 担当 "])
def test_a_column_is_taken_by_name_or_number(column):
    prompts, told = read_prompts(File("p.xlsx", excel(*NOTES)), column=column)
    assert prompts == ["山"] * 12 and told.columns == ("担当",)
    assert read_prompts(File("p.txt", b"id;message\n1;a\n2;b\n"), column="message")[0] == ["a", "b"]


def test_a_column_that_is_taken_by_number_leaves_the_header_a_header():
    table = File("rows.csv", b"note,input\nW1,Which?\nW2,What?\n")
    assert [read_prompts(table, column=one)[0] for one in ("2", "input", "1")] == [
        *[["Which?", "What?"]] * 2,
        ["W1", "W2"],
    ]


@pytest.mark.parametrize(("name", "data"), [("p.csv", b"id,message\n1,a\n2,b\n"), ("p.txt", b"one\ntwo\n")])
def test_a_column_that_is_not_there_is_told_with_those_that_are(name, data):
    with pytest.raises(InputError, match=r"id, message|leave it out"):
        read_prompts(File(name, data), column="report")


def test_entries_without_a_text_are_counted():
    prompts, told = read_prompts(File("p.csv", b"id,input\n1,a\n2,\n\n3,b\n"))
    assert prompts == ["a", "b"] and str(told).endswith("left out: 1 without a text")


def test_errors_of_excel_among_prompts_are_counted():
    prompts, told = read_prompts(File("p.xlsx", excel(("input",), ("#N/A",), ("a",))))
    assert prompts == ["a"] and str(told).endswith("left out: 1 with an error of Excel")


@pytest.mark.parametrize("said", [b'<dimension ref="A1"/>', b'<dimension ref="A1:B4"/>', b""])
def test_an_excel_file_is_read_whole_whatever_it_says_of_its_size(said):
    data, out = excel(("input", "output"), *((f"note {n}", f"A-{n}") for n in range(10))), io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as whole, zipfile.ZipFile(out, "w") as made:
        for name in whole.namelist():
            made.writestr(name, re.sub(rb'<dimension ref="[^"]*" ?/>', said, whole.read(name)))
    assert len(read_examples(File("a.xlsx", out.getvalue()))[0]) == 10


def bomb():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as folded:
        folded.writestr("xl/workbook.xml", b"0" * (65 * 2**20))
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "rule", "told"),
    [
        ("a.csv", b"input,output\na,b,c\n", "row_width", ":2: a row may have 2 cells"),
        ("a.csv", b"input,output\na,b\n\nc,\n", "incomplete_example", ":4: "),
        ("a.csv", b"input,part\na,b\n", "no_output", "'input'"),
        ("a.csv", b'input,output\na,"b\nc,d\n', "broken_csv", ":2: cannot be read as CSV (a quote is not closed)"),
        ("a.csv", "Käse;für\n".encode("latin-1"), "not_text", "Shift-JIS"),
        ("a.csv", "café;créée\n".encode("latin-1"), "not_text", "EUC-JP"),
        ("a.txt", b"\x1b$B\x7f", "not_text", "ISO-2022-JP"),
        ("a.txt", b"\x1b[1m bold", "not_text", "U+001B"),
        ("a.csv", "input;output\nGrößer;née\n".encode("latin-1"), "not_text", "save it as UTF-8"),
        ("a.csv", b"a,b\nc\x0c,d\n", "not_text", ":2: "),
        ("a.csv", b"input,output\na," + b"x" * 20_001 + b"\n", "long_cell", "20,001"),
        ("a.csv", b"input,output\na," + b"x" * 200_000 + b"\n", "broken_csv", ":2: "),
        ("a.csv", b"", "no_examples", "no example found"),
        ("a.jsonl", b'{"input": "a", "output": "\\ud800"}\n', "half_character", ":1: "),
        ("a.jsonl", b"[" * 100_000, "broken_json", ":1: "),
        ("a.jsonl", b'{"input": "a", "output": "b", "part": "train"}\n', "no_examples", "1 of the part train"),
        ("a.xlsx", excel(("a", "b"), ("c",)), "incomplete_example", ":2: "),
        ("a.xlsx", excel(["x"] * 60), "many_columns", "50"),
        ("a.xlsx", excel(["x", "y", *[None] * 57, "z"]), "many_columns", "50"),
        ("a.xlsx", excel(("a", "b"), ("c", "#N/A")), "error_value", ":2: a text is needed, and this is the Excel"),
        ("a.csv", b"input,output\na,b\n#REF!,c\n", "error_value", "#REF!"),
        ("a.xlsx", bomb(), "many_rows", "20,000"),
        ("a.xlsx", b"PK\x03\x04", "broken_excel", "save it again"),
        ("a.docx", b"PK\x03\x04", "broken_excel", "save it again"),
        ("a.xlsx", b"\xd0\xcf\x11\xe0", "old_excel", "without a password"),
        ("a.pdf", b"%PDF-1.7", "file_type", "CSV"),
    ],
)
def test_what_cannot_be_taken_is_refused_in_one_line_that_names_the_place(name, data, rule, told):
    with pytest.raises(InputError) as error:
        read_examples(File(name, data))
    assert error.value.rule == rule and told in str(error.value)
    assert str(error.value).isprintable() and str(error.value).startswith(name)


def test_a_file_without_end_is_not_read_to_its_end(tmp_path):
    (tmp_path / "endless.txt").symlink_to("/dev/zero")
    with pytest.raises(InputError, match="64 MB"):
        read_prompts(tmp_path / "endless.txt")


# What csv.writer and openpyxl write comes back

LETTERS = st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), include_characters="\n\t")
CELLS = st.text(LETTERS, min_size=1, max_size=30).map(str.strip).filter(bool)
TABLES = st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=8)


@settings(max_examples=75, deadline=None)
@given(TABLES, st.sampled_from(list(DELIMITERS)), st.sampled_from(["utf-8-sig", "utf-16"]), st.sampled_from(HEADERS))
def test_what_a_csv_writer_writes_comes_back(pairs, delimiter, codec, header):
    data = separated([header, *pairs], delimiter).encode(codec)
    assert read_examples(File("a.csv", data))[0] == pairs
    assert read_prompts(File("a.csv", data))[0] == [text for text, _ in pairs]


@settings(max_examples=150, deadline=None)
@given(st.lists(CELLS, min_size=1, max_size=8), st.sampled_from(["input", "プロンプト"]))
def test_a_single_column_comes_back_whole(texts, header):
    assert read_prompts(File("a.csv", separated([[header], *([text] for text in texts)], ",").encode()))[0] == texts


@settings(max_examples=30, deadline=None)
@given(TABLES)
def test_what_openpyxl_writes_comes_back(pairs):
    pairs = [pair for pair in pairs if not any(text.startswith("=") or "_x" in text for text in pair)]
    if pairs:
        assert read_examples(File("a.xlsx", excel(("input", "output"), *pairs)))[0] == pairs


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["a.csv", "a.txt", "a.jsonl", "a.xlsx", "a"]), st.booleans())
def test_any_bytes_are_read_or_refused_in_one_line(data, name, of_examples):
    try:
        read_examples(File(name, data)) if of_examples else read_prompts(File(name, data))
    except InputError as error:
        assert str(error).isprintable()


# The command line; HTTP and the console have their own tests of the same files


@pytest.mark.parametrize(("name", "codec"), [("p.csv", "cp932"), ("p.csv", "euc_jp"), ("p.xlsx", "")])
def test_the_command_line_says_what_it_took_before_anything_else(run, tmp_path, name, codec):
    rows = [("番号", "入力", "正解"), *((n, *pair) for n, pair in enumerate(PAIRS))]
    (tmp_path / name).write_bytes(separated(rows, ";").encode(codec) if codec else excel(*rows))
    words = ("--job", "a", "--inspection", tmp_path / name, "--generator", tmp_path / "nowhere")
    code, out, error = run("pilot", "--prompts", tmp_path / name, *words)
    assert (code, out) == (2, "")
    form = f"CSV with semicolons, {ENCODINGS[codec]}" if codec else "Excel, sheet 'Sheet'"
    first, second = error.splitlines()[:2]
    last = 22 if codec else 21  # one cell has two lines
    assert first == f"{tmp_path / name}: {form}; column '入力' of 3; 20 prompts (rows 2-{last})"
    assert second == f"{tmp_path / name}: {form}; columns '入力' and '正解' of 3; 20 examples (rows 2-{last})"


@pytest.mark.parametrize(
    ("name", "text", "prompts"),
    [
        ("a.csv", "prompt\nUsed KX-4825, pump 3, urgent\nb\n", ["Used KX-4825, pump 3, urgent", "b"]),
        ("a.csv", "sep=;\nprompt;note\na;x\nb, c;y\n", ["a", "b, c"]),
        ("a.tsv", "prompt\tnote\na\tx\nb\ty\n", ["a", "b"]),
        ("a.json", '[\n "one",\n "two"\n]\n', ["one", "two"]),
        ("a.json", '[{"prompt": "one"}, {"prompt": "two"}]', ["one", "two"]),
        ("a.csv", "id,note\n1,pump is hot\n2,valve leaks\n", ["pump is hot", "valve leaks"]),
        ("a.csv", "question\nwhat is it\nwho, then\n", ["what is it", "who, then"]),
        ("a.jsonl", '{"prompt": "one\u2028two"}\n{"prompt": "three"}\n', ["one\u2028two", "three"]),
    ],
)
def test_no_header_bracket_or_number_becomes_a_prompt(name, text, prompts):
    assert read_prompts(File(name, text.encode()))[0] == prompts
    assert read_prompts(File("pasted", text=text))[0] == prompts or name.endswith("csv")


def test_a_row_wider_than_the_header_is_refused_by_its_line_also_below_a_told_delimiter():
    with pytest.raises(InputError, match=r"a.csv:3: a row may have 2 cells"):
        read_prompts(File("a.csv", b"sep=,\nid,prompt\n1,Used KX-4825, pump 3\n"))
