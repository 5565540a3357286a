"""Japanese jobs whose answers run to lines, and short jobs on the same texts, as in `synthetic/requests.py`."""

from __future__ import annotations

from functools import partial
from random import Random

from prompt2lora.training.synthetic.drafts import RequestKind, text_of_any
from prompt2lora.training.synthetic.japanese import mathematics, vocabulary
from prompt2lora.training.synthetic.japanese.messages import message_text

_TABLES = (("orders", "注文"), ("parts", "部品"), ("machines", "設備"), ("deliveries", "納入"))
_COLUMNS = (
    ("supplier", "取引先", vocabulary.SUPPLIERS),
    ("material", "材質", vocabulary.MATERIALS),
    ("status", "状況", vocabulary.STATUSES),
)


def _described(random: Random) -> str:
    n = random.randint(2, 9)
    what, found = random.choice(
        [
            ("数値のリスト", f"{n}で割り切れる数の合計"),
            ("数値のリスト", f"{n}番目に大きい値"),
            ("数値のリスト", f"{n}より大きい数の個数"),
            ("文字列", f"{n}文字ごとに区切ったリスト"),
            ("文字列", "単語を逆の順に並べたもの"),
            ("文字列のリスト", f"{n}文字以上のものだけを並べたリスト"),
            ("辞書のリスト", "取引先ごとの金額の合計"),
            ("日付の文字列", f"{n}日後の日付"),
        ]
    )
    end = random.choice(["を返す関数", "を求める処理", "を返す関数がほしい", "を計算するもの"])
    return f"{what}を受け取り、{found}{end}"


def _wanted_of_a_table(random: Random) -> str:
    (table, said), (column, called, values) = random.choice(_TABLES), random.choice(_COLUMNS)
    wanted = random.choice(
        [
            f"{called}ごとの件数",
            f"{called}が{random.choice(values)}の行を新しい順に",
            f"{called}が{random.choice(values)}のものの金額の合計",
            f"金額の大きい順に{random.randint(3, 10)}件",
            f"{random.randint(2, 20)}件より多い{called}",
        ]
    )
    return f"{said}の表 {table}(id, {column}, amount, date)：{wanted}"


def _topic(random: Random) -> str:
    product, deed = random.choice(vocabulary.PRODUCTS), random.choice(vocabulary.DEEDS)
    return random.choice(
        [
            f"{product}の{deed}のしかた",
            f"{product}の役割",
            f"{product}に{random.choice(vocabulary.DEFECTS)}が出る原因",
            f"{product}を{deed}する前に確かめること",
            f"{product}の{deed}を忘れたときの影響",
        ]
    )


KINDS = (
    RequestKind(
        _described,
        (
            "Pythonの関数を書いてください。",
            "これをPythonで実装してください。",
            "依頼のとおりに動くコードを書いてください。",
            "プログラムを作成してください。",
        ),
        (
            "対象は数値、文字列、表のどれですか。一語で答えてください。",
            "関数の名前だけを英語で書いてください。",
            "難しさを易、中、難で答えてください。",
            "依頼に出てくる数字だけを書いてください。",
        ),
    ),
    RequestKind(
        _wanted_of_a_table,
        (
            "SQL文を書いてください。",
            "SQLで答えてください。",
            "データベースへの問い合わせを書いてください。",
            "この条件で取り出すSELECT文を作成してください。",
        ),
        (
            "表の名前だけを書いてください。",
            "合計が必要ですか。はい、いいえで答えてください。",
            "必要な列の名前を一つ書いてください。",
            "結果は一行ですか、複数行ですか。",
        ),
    ),
    RequestKind(
        _topic,
        (
            "新人にも分かるように短く説明してください。",
            "二、三文で説明してください。",
            "注意点を三つ挙げてください。",
            "簡単な手順書を書いてください。",
        ),
        (
            "出てくる部品の名前だけを書いてください。",
            "方法、原因、役割のどれについてですか。",
            "一語でまとめてください。",
            "担当は保全、購買、安全のどれですか。",
            "十文字以内で題名を付けてください。",
        ),
    ),
    RequestKind(
        message_text,
        (
            "この連絡への返信を丁寧に書いてください。",
            "返信メールの文面を三、四文で作成してください。",
            "お詫びと今後の対応を伝える文章を書いてください。",
            "相手に送るメールを書いてください。",
        ),
        (
            "件名を十文字以内で書いてください。",
            "質問、依頼、報告のどれですか。",
            "急ぎですか。はい、いいえで答えてください。",
            "出てくる品名だけを書いてください。",
            "営業、資材、保全のどこへ回しますか。",
        ),
    ),
    RequestKind(
        partial(text_of_any, mathematics.FAMILIES),
        (
            "途中の計算を一つずつ書き、最後に #### と答えを書いてください。",
            "解き方を説明してから答えを書いてください。",
            "式と計算を順に示し、答えを \\boxed{} に入れてください。",
            "考え方を一行ずつ書いて解いてください。",
        ),
        (
            "答えの数だけを書いてください。",
            "答えの単位を一語で書いてください。",
            "問題に出てくる数を読点で区切って書いてください。",
            "お金、時間、個数のどれを求めますか。",
            "足し算、引き算、掛け算、割り算のどれを使いますか。一つだけ答えてください。",
        ),
    ),
)
