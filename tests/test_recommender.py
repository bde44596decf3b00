"""Questions come in the caller's own kind of frame and ids, and what cannot be answered is said."""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import sasrec
from sasrec.data.sequences import Sequences
from sasrec.errors import ConfigError, DataError, OutputError, ScoreError, UnknownIdError
from sasrec.retrieval import topk
from sasrec.retrieval.counting import Markov, Popularity
from sasrec.retrieval.recommender import Recommender


def popular(log, **options):
    scorer = Popularity.of(log.histories, items=len(log.items))
    return Recommender(scorer, users=log.users, items=log.items, histories=log.histories, **options)


@pytest.fixture(scope="module")
def texts(log_of):
    """Popularity over x (4 events), y (3), z (2), w (1)."""
    return popular(log_of({"ada": ["x", "y", "x"], "bob": ["y", "x", "z"], "cyd": ["x", "y", "z", "w"]}))


@pytest.fixture(scope="module")
def numbers(log_of):
    """The same with users 1, 2, 3 and items 10, 20, 30, 40."""
    return popular(log_of({1: [10, 20, 10], 2: [20, 10, 30], 3: [10, 20, 30, 40]}))


class Broken:
    """A scorer that fails from the given call on."""

    kind = "broken"
    reads_times = False

    def __init__(self, items, value, *, sound=0):
        self.items, self.value, self.sound = items, value, sound

    def scores(self, histories):
        self.sound -= 1
        scores = np.tile(np.arange(self.items, dtype=np.float32), (len(histories), 1))
        if self.sound < 0:
            scores[-1, 0] = self.value
        return scores

    def similarities(self, item):
        return self.scores(Sequences.of([[item]]))[0]


def broken(model, value, *, sound=0):
    scorer = Broken(len(model.items), value, sound=sound)
    return Recommender(scorer, users=model.users, items=model.items, histories=model.histories)


# Frames


KINDS = {
    "list": (["bob", "ada"], pl.DataFrame),
    "tuple": (("bob", "ada"), pl.DataFrame),
    "generator": (None, pl.DataFrame),
    "numpy array": (np.array(["bob", "ada"]), pl.DataFrame),
    "numpy objects": (np.array(["bob", "ada"], dtype=object), pl.DataFrame),
    "pyarrow array": (pa.array(["bob", "ada"]), pl.DataFrame),
    "pandas index": (pd.Index(["bob", "ada"]), pl.DataFrame),
    "polars series": (pl.Series(["bob", "ada"]), pl.DataFrame),
    "polars categories": (pl.Series(["bob", "ada"], dtype=pl.Categorical), pl.DataFrame),
    "polars frame": (pl.DataFrame({"who": ["bob", "ada"]}), pl.DataFrame),
    "polars lazy frame": (pl.LazyFrame({"who": ["bob", "ada"]}), pl.DataFrame),
    "pandas series": (pd.Series(["bob", "ada"], index=[7, 7]), pd.DataFrame),
    "pandas objects": (pd.Series(["bob", "ada"], dtype=object), pd.DataFrame),
    "pandas categories": (pd.Series(["bob", "ada"], dtype="category"), pd.DataFrame),
    "pandas frame": (pd.DataFrame({"who": ["bob", "ada"]}), pd.DataFrame),
    "pyarrow column": (pa.chunked_array([["bob"], ["ada"]]), pa.Table),
    "pyarrow table": (pa.table({"who": ["bob", "ada"]}), pa.Table),
}


@pytest.mark.parametrize("kind", KINDS)
def test_frames_go_out_as_they_came_in(texts, kind):
    question, expected = KINDS[kind]

    answer = texts.recommend((one for one in ("bob", "ada")) if question is None else question, k=2)

    assert isinstance(answer, expected)
    plain = (
        answer.to_pydict()
        if expected is pa.Table
        else pl.DataFrame(dict(answer.items()) if expected is pd.DataFrame else answer).to_dict(as_series=False)
    )
    assert plain == {
        "user_id": ["bob", "ada", "ada"],
        "item_id": ["w", "z", "w"],
        "score": pytest.approx([0.1, 0.2, 0.1]),
        "rank": [1, 1, 2],
    }


@pytest.mark.parametrize("frame", ["polars", "pandas", "pyarrow"])
def test_a_list_is_answered_in_the_kind_of_frame_the_log_came_in(frame):
    rows = pl.DataFrame({"user_id": ["a", "a", "b"], "item_id": ["x", "y", "x"]})
    log = sasrec.read_log(
        {"polars": rows, "pandas": pd.DataFrame(rows.to_dict(as_series=False)), "pyarrow": rows.to_arrow()}[frame]
    )
    model = popular(log, frame=log.source.frame)
    markov = Recommender.of_log(Markov.of(log.histories, items=len(log.items)), log, record={})
    expected = {"polars": pl.DataFrame, "pandas": pd.DataFrame, "pyarrow": pa.Table}[frame]

    answers = (model.recommend(["b"]), model.continue_from(["x"]), markov.similar("x"), model.score(["x"], ["y"]))

    assert all(isinstance(answer, expected) for answer in answers)


@pytest.mark.parametrize("frame", ["polars", "pandas", "pyarrow"])
def test_a_loaded_model_answers_in_the_kind_of_frame_it_is_told(small_model, tmp_path, frame):
    small_model.save(tmp_path / "m")

    answer = sasrec.load(tmp_path / "m", frame=frame).recommend(["u07"])

    assert type(answer).__module__.partition(".")[0] == frame


def test_a_kind_of_frame_that_is_unknown_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="frame: expected 'polars', 'pandas' or 'pyarrow', found 'dask'"):
        sasrec.load(tmp_path, frame="dask")


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ("ada", r"users: expected a list of ids, found the single text 'ada'; pass \['ada'\]"),
        (b"ada", "users: expected a list of ids, found the single text b'ada'"),
        (3, r"users: expected a list of ids, found 3; pass \[3\]"),
        (None, "users: expected a list of ids, found None$"),
        (np.array("ada"), "users: expected a list of ids, found"),
        (pl.DataFrame({"a": ["ada"], "b": ["bob"]}), "users: expected one column of ids, found a, b; select one"),
        (pd.DataFrame(), "users: expected one column of ids, found"),
    ],
)
def test_what_is_no_list_of_ids_is_refused(texts, question, message):
    with pytest.raises(DataError, match=message):
        texts.recommend(question)


def test_every_list_of_ids_says_which_one_it_is(texts):
    with pytest.raises(DataError, match="history: expected a list"):
        texts.continue_from("x")
    with pytest.raises(DataError, match="candidates: expected a list"):
        texts.score(["x"], "y")
    with pytest.raises(DataError, match="allow: expected a list"):
        texts.recommend(["ada"], allow="x")
    with pytest.raises(DataError, match="deny: expected a list"):
        texts.recommend(["ada"], deny="x")


# Ids


@pytest.mark.parametrize("user", [2, np.int64(2), np.uint8(2), 2.0])
def test_an_integer_id_comes_back_as_the_models_own(numbers, user):
    answer = numbers.recommend([user])

    assert answer["user_id"].dtype == pl.Int64
    assert answer.rows() == [(2, 40, pytest.approx(0.1), 1)]


@pytest.mark.parametrize("user", [True, np.True_, "1", None, [1]])
def test_what_only_looks_like_an_id_is_unknown(numbers, user):
    with pytest.raises(UnknownIdError, match="1 unknown user"):
        numbers.recommend([user])


def test_texts_and_integers_are_never_mixed_up(texts, numbers):
    with pytest.raises(UnknownIdError, match="1 unknown user: '2'; known are 3, whose ids are integers"):
        numbers.recommend(["2"])
    with pytest.raises(UnknownIdError, match="1 unknown user: 2; known are 3, whose ids are text"):
        texts.recommend([2])


# What is unknown


def test_unknown_users_are_named_in_an_error(texts):
    with pytest.raises(UnknownIdError, match="2 unknown users: 'eve', 'kim'; known are 3"):
        texts.recommend(["ada", "eve", "kim"])


def test_unknown_users_are_skipped_with_a_warning_where_told_so(texts):
    with pytest.warns(UserWarning, match="skipped 1 unknown user: 'eve'") as caught:
        answer = texts.recommend(["eve", "bob"], unknown="skip")

    assert answer["user_id"].to_list() == ["bob"]
    assert caught[0].filename == __file__, "the warning points at the caller"


def test_skipped_users_do_not_change_the_type_of_the_others(numbers):
    with pytest.warns(UserWarning, match="skipped 3 unknown users"):
        answer = numbers.recommend([2, "eve", True, 2.5], unknown="skip")

    assert answer["user_id"].to_list() == [2]


def test_unknown_users_are_ignored_without_a_word_where_told_so(texts):
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        assert texts.recommend(["eve", "bob"], unknown="ignore")["user_id"].to_list() == ["bob"] * len(
            texts.recommend(["bob"])
        )
        assert texts.continue_from(["q", "x"], k=1, unknown="ignore").equals(texts.continue_from(["x"], k=1))


def test_no_warning_is_given_where_everybody_is_known(texts):
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        assert len(texts.recommend(["bob"], unknown="skip")) == 1


@pytest.mark.parametrize("users", [["\udcff"], ["bob", "e\udcff"]])
def test_an_id_that_is_no_text_is_unknown_whatever_is_done_about_the_unknown(texts, numbers, users):
    for model in (texts, numbers):
        with pytest.raises(UnknownIdError, match=r"1 unknown user: '.*\\udcff'.*; an id is UTF-8 text"):
            model.recommend(users, unknown="popular")
        assert len(model.recommend(users, unknown="ignore").filter(pl.col("user_id").cast(pl.String) != "bob")) == 0


def test_unknown_users_get_the_popular_items_marked_as_such_in_their_place(texts):
    answer = texts.recommend(["eve", "bob", "eve"], k=2, unknown="popular")

    assert answer.rows() == [
        ("eve", "x", pytest.approx(0.4), 1, "popular"),
        ("eve", "y", pytest.approx(0.3), 2, "popular"),
        ("bob", "w", pytest.approx(0.1), 1, "model"),
        ("eve", "x", pytest.approx(0.4), 1, "popular"),
        ("eve", "y", pytest.approx(0.3), 2, "popular"),
    ]


def test_popular_items_too_are_allowed_and_not_denied(texts):
    answer = texts.recommend(["eve"], unknown="popular", allow=["y", "z", "w"], deny=["z"])

    assert answer["item_id"].to_list() == ["y", "w"]


def test_the_source_is_shown_whenever_popular_items_were_asked_for(texts):
    assert texts.recommend(["bob"], unknown="popular")["source"].to_list() == ["model"]
    assert texts.continue_from(["x"], k=1, unknown="popular")["source"].to_list() == ["model"]
    assert texts.recommend([], unknown="popular").columns == ["user_id", "item_id", "score", "rank", "source"]


@pytest.mark.parametrize(
    ("users", "expected"),
    [
        ([2, 99], [2, 99]),
        ([2, np.int64(99)], [2, 99]),
        ([2, "eve"], ["2", "eve"]),
        ([2, True], ["2", "True"]),
        ([2, 2.5], ["2", "2.5"]),
        ([2, 2**70], ["2", str(2**70)]),
        ([2.0, 99], [2, 99]),
    ],
)
def test_an_unknown_user_of_another_type_makes_the_column_text(numbers, users, expected):
    answer = numbers.recommend(users, k=1, unknown="popular")

    assert answer["user_id"].to_list() == expected


def test_unknown_items_of_a_history_are_named_in_an_error(texts):
    with pytest.raises(UnknownIdError, match="1 unknown item: 'q'; known are 4"):
        texts.continue_from(["x", "q"])


def test_unknown_items_of_a_history_are_skipped_with_a_warning_where_told_so(texts):
    with pytest.warns(UserWarning, match="skipped 1 unknown item: 'q'") as caught:
        answer = texts.continue_from(["q", "x"], k=1, unknown="skip")

    assert answer["item_id"].to_list() == ["y"]
    assert caught[0].filename == __file__


@pytest.mark.filterwarnings("ignore:skipped")
@pytest.mark.parametrize("history", [[], ["q"]])
def test_a_history_without_any_known_item_gets_the_popular_items_only_when_asked_for(texts, history):
    answer = texts.continue_from(history, k=2, unknown="popular")

    assert answer.rows() == [("x", pytest.approx(0.4), 1, "popular"), ("y", pytest.approx(0.3), 2, "popular")]
    with pytest.raises(UnknownIdError):
        texts.continue_from(history, unknown="skip")


def test_an_empty_history_says_what_to_do(texts):
    with pytest.raises(UnknownIdError, match="no item of it is known to the model; unknown='popular' gives popular"):
        texts.continue_from([])
    with pytest.raises(UnknownIdError, match="history: is empty; a score needs at least one item"):
        texts.score([], ["x"])


@pytest.mark.parametrize("ask", ["recommend", "continue_from"])
def test_only_three_ways_to_treat_the_unknown_exist(texts, ask):
    with pytest.raises(ConfigError, match="unknown: expected 'raise', 'skip', 'ignore' or 'popular', found 'forget'"):
        getattr(texts, ask)(["x"], unknown="forget")


@pytest.mark.parametrize("rule", ["allow", "deny"])
def test_unknown_items_to_allow_or_deny_are_skipped_with_a_warning_where_told_so(texts, rule):
    for ask in (lambda **rules: texts.recommend(["ada"], **rules), lambda **rules: texts.continue_from(["x"], **rules)):
        with pytest.warns(UserWarning, match="skipped 1 unknown item: 'q'") as caught:
            answer = ask(**{rule: ["q", "w"]}, unknown="skip")

        assert answer.equals(ask(**{rule: ["w"]}))
        assert [one.filename for one in caught] == [__file__]


@pytest.mark.parametrize("unknown", ["ignore", "popular"])
@pytest.mark.parametrize("rule", ["allow", "deny"])
def test_unknown_items_to_allow_or_deny_are_left_out_without_a_word_where_told_so(texts, rule, unknown):
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        assert texts.recommend(["ada", "bob"], **{rule: ["q", "w"]}, unknown=unknown).equals(
            texts.recommend(["ada", "bob"], **{rule: ["w"]}, unknown=unknown)
        )


@pytest.mark.filterwarnings("ignore:skipped")
@pytest.mark.parametrize("unknown", ["skip", "ignore", "popular"])
def test_a_list_to_allow_of_which_nothing_is_known_allows_nothing(texts, unknown):
    assert texts.recommend(["ada", "eve"], allow=["q"], unknown=unknown).is_empty()
    assert texts.continue_from(["x"], allow=["q"], unknown=unknown).is_empty()


def test_unknown_items_to_allow_deny_or_score_are_errors(texts):
    for ask in (
        lambda: texts.recommend(["ada"], allow=["q"]),
        lambda: texts.recommend(["ada"], deny=["q"]),
        lambda: texts.similar("x", deny=["q"]),
        lambda: texts.similar("q"),
        lambda: texts.score(["x"], ["q"]),
        lambda: texts.score(["q"], ["x"]),
    ):
        with pytest.raises(UnknownIdError, match="1 unknown item: 'q'"):
            ask()


# Seen items


def test_seen_items_are_left_out_unless_the_training_found_repeats(log_of):
    log = log_of({"ada": ["x", "y"], "bob": ["z"]})

    assert popular(log).exclude_seen
    assert set(popular(log).recommend(["ada"])["item_id"]) == {"z"}
    assert not popular(log, record={"exclude_seen": False}).exclude_seen
    assert set(popular(log, record={"exclude_seen": False}).recommend(["ada"])["item_id"]) == {"x", "y", "z"}
    assert set(popular(log, record={"exclude_seen": False}).continue_from(["x"])["item_id"]) == {"x", "y", "z"}


def test_seen_items_are_left_out_however_long_ago_they_were(small_model, walks):
    length = small_model.scorer.config.length
    user = max(walks.users.ids, key=lambda one: len(walks.histories[walks.users.rows([one])[0]]))
    history = walks.items.raw(walks.histories[walks.users.rows([user])[0]]).to_list()
    assert len({*history}) > length

    answer = small_model.recommend([user], k=100, exclude_seen=True)

    assert {*answer["item_id"]} == {*walks.items.ids} - {*history}


# Similar items of a network


def test_similar_items_of_a_network_are_the_cosines_of_its_vectors(small_model):
    vectors = small_model.scorer.network.items.weight.detach().double().numpy()
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    row = 4

    answer = small_model.similar(small_model.items.ids[row], k=3)

    cosines = units @ units[row]
    expected = [other for other in np.argsort(-cosines) if other != row][:3]
    assert answer["item_id"].to_list() == small_model.items.raw(np.array(expected)).to_list()
    assert answer["score"].to_list() == pytest.approx(cosines[expected].tolist(), abs=1e-6)


# Numbers that are none


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_are_refused(texts, value):
    model = broken(texts, value)

    for ask in (
        lambda: model.recommend(["ada", "bob"], exclude_seen=False),
        lambda: model.continue_from(["y"]),
        lambda: model.similar("y"),
        lambda: model.score(["y"], ["w"]),
    ):
        with pytest.raises(ScoreError, match="NaN or infinite"):
            ask()


# Everybody at once


@pytest.mark.parametrize("sound", [0, 1, 2])
def test_scores_that_break_in_the_middle_leave_no_file(texts, tmp_path, monkeypatch, sound):
    monkeypatch.setattr(topk, "_BLOCK_BYTES", 1)
    (tmp_path / "all.parquet").write_text("old")

    with pytest.raises(ScoreError):
        broken(texts, float("nan"), sound=sound).recommend_all(
            tmp_path / "all.parquet", exclude_seen=False, replace=True
        )

    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("all.parquet", "old")]


def test_an_interrupt_in_the_middle_leaves_no_file(texts, tmp_path, monkeypatch):
    monkeypatch.setattr(topk, "_BLOCK_BYTES", 1)
    scores, calls = Popularity.scores, []

    def interrupted(self, histories):
        calls.append(histories)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return scores(self, histories)

    monkeypatch.setattr(Popularity, "scores", interrupted)

    with pytest.raises(KeyboardInterrupt):
        texts.recommend_all(tmp_path / "all.parquet")

    assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_is_replaced_only_when_told_to(texts, tmp_path):
    path = tmp_path / "all.parquet"
    path.write_text("old")

    with pytest.raises(OutputError, match=r"all\.parquet: exists already"):
        texts.recommend_all(path)
    assert path.read_text() == "old"
    assert texts.recommend_all(path, replace=True) == len(pl.read_parquet(path)) == 3


def test_a_model_shows_what_it_is(texts):
    assert repr(texts) == f"Recommender(popularity: {len(texts.items)} items, 3 users)"


@pytest.mark.parametrize("name", ["all.csv", "ALL.CSV"])
def test_everybodys_items_are_csv_where_the_name_says_so(log_of, tmp_path, name):
    model = popular(log_of({"ada, the first": ["x", 'y "z"'], "bob": ["x"], "cyd": ["x"]}))

    model.recommend_all(tmp_path / name, exclude_seen=False)

    assert (tmp_path / name).read_text().startswith("user_id,item_id,score,rank\n")
    found = pl.read_csv(tmp_path / name, schema_overrides={"score": pl.Float32, "rank": pl.Int32})
    assert found.equals(model.recommend(model.users.ids, exclude_seen=False))


@pytest.mark.parametrize("rules", [{"allow": ["z", "w"]}, {"deny": ["x", "z"]}, {"allow": ["z", "w"], "deny": ["w"]}])
def test_everybodys_items_keep_to_what_is_allowed(texts, tmp_path, rules):
    texts.recommend_all(tmp_path / "all.parquet", exclude_seen=False, **rules)

    found = pl.read_parquet(tmp_path / "all.parquet")
    assert found.equals(texts.recommend(texts.users.ids, exclude_seen=False, **rules))
    assert {*found["item_id"]} == {*rules.get("allow", "xyzw")} - {*rules.get("deny", "")}


@pytest.mark.parametrize("name", ["all.parquet", "ALL.Parquet", "all", ".all"])
def test_everybodys_items_are_parquet_where_the_name_says_so_or_nothing(texts, tmp_path, name):
    texts.recommend_all(tmp_path / name)

    assert pl.read_parquet(tmp_path / name).columns == ["user_id", "item_id", "score", "rank"]


@pytest.mark.parametrize("name", ["all.csv.gz", "all.xlsx", "all.json", "all.parquet.zst", "all.1"])
def test_a_name_that_promises_another_format_is_refused(texts, tmp_path, name):
    with pytest.raises(OutputError, match=rf"{name}: is to end in .*, which is not written; name it .csv or .parquet"):
        texts.recommend_all(tmp_path / name)

    assert not list(tmp_path.iterdir())


def test_what_to_do_about_the_unknown_is_checked_for_everybody_too(texts, tmp_path):
    with pytest.raises(ConfigError, match="unknown: expected 'raise', 'skip', 'ignore' or 'popular', found 'drop'"):
        texts.recommend_all(tmp_path / "all.parquet", unknown="drop")

    assert not list(tmp_path.iterdir())


def test_a_file_of_everybody_keeps_large_integers(log_of, tmp_path):
    model = popular(log_of({2**53 + 1: [2**62 + 1, 5], 2**53: [5]}))

    model.recommend_all(tmp_path / "all.parquet")

    assert pl.read_parquet(tmp_path / "all.parquet").select("user_id", "item_id").rows() == [(2**53, 2**62 + 1)]


def test_users_who_had_every_item_leave_an_empty_file_with_its_columns(log_of, tmp_path):
    model = popular(log_of({"ada": ["x", "y"], "bob": ["y", "x"]}))

    assert model.recommend_all(tmp_path / "all.parquet") == 0
    assert pl.read_parquet(tmp_path / "all.parquet").columns == ["user_id", "item_id", "score", "rank"]


def test_scores_are_held_for_one_block_of_users_at_a_time(texts, tmp_path, monkeypatch):
    monkeypatch.setattr(topk, "_BLOCK_BYTES", 4 * 4 * 2)
    asked = []
    scores = Popularity.scores
    monkeypatch.setattr(Popularity, "scores", lambda self, some: (asked.append(len(some)), scores(self, some))[1])

    texts.recommend_all(tmp_path / "all.parquet")

    assert asked == [2, 1]


def test_markov_falls_back_to_popularity_for_an_item_that_nothing_followed(log_of):
    log = log_of({"ada": ["x", "y"], "bob": ["x", "z"], "cyd": ["z", "x", "w"]})
    model = Recommender(Markov.of(log.histories, items=4), users=log.users, items=log.items, histories=log.histories)

    assert model.continue_from(["w"], k=2)["item_id"].to_list() == ["x", "z"]


def test_copies_of_a_candidate_score_alike_and_share_their_rank(small_model):
    known = small_model.items.ids.to_list()

    found = small_model.score(["i03"], [known[1]] * 9 + [known[2]] + known)

    scores = found["score"].to_list()
    assert len({*scores[:9], scores[11]}) == 1
    assert len({scores[9], scores[12]}) == 1
    assert len(set(found["rank"].to_list()[:9])) == 1
