from dataclasses import replace

from tunesmith_gateway.citations import Chunk, Citation, checked, cite


def chunk(text: str, page: int = 1, file_id: str = "file-a") -> Chunk:
    return Chunk(file_id, f"{file_id}.pdf", page, text, 0.9)


RAIN = chunk("The rain gauge is calibrated every 90 days. The funnel is cleaned weekly.", page=4)
WIND = chunk("The anemometer is calibrated every 30 days. Its bearings are replaced yearly.", page=5)


def test_the_page_that_holds_the_answers_figure_is_cited_with_its_sentence() -> None:
    citations = cite("How often?", "The rain gauge is calibrated every 90 days.", [WIND, RAIN])
    assert [(c.page, c.quote, c.index) for c in citations] == [(4, "The rain gauge is calibrated every 90 days.", 1)]


def test_a_quote_is_always_a_piece_of_the_chunk() -> None:
    for answer in ("Calibrated every 30 days", "bearings replaced", "weekly cleaning of the funnel, days"):
        for citation in cite("", answer, [RAIN, WIND]):
            assert citation.quote in (RAIN.text if citation.page == 4 else WIND.text)


def test_an_answer_that_rests_on_nothing_cites_nothing() -> None:
    assert cite("Which rain gauge?", "Bananas ripen quickly near apples.", [RAIN, WIND]) == []
    assert cite("Which rain gauge?", "", [RAIN]) == []
    assert cite("", "The rain gauge", []) == []


def test_a_page_is_cited_once() -> None:
    twice = [chunk("The mast is 12 metres high.", page=2), chunk("The mast is 12 metres high and grey.", page=2)]
    assert len(cite("How high?", "The mast is 12 metres high.", twice)) == 1


def test_equal_support_goes_to_the_better_ranked_chunk() -> None:
    same = [chunk("The mast is 12 metres high.", page=2), chunk("The mast is 12 metres high.", page=9)]
    assert cite("How high?", "The mast is 12 metres high.", same)[0].page == 2


def test_a_sentence_about_the_question_wins_over_one_that_shares_what_the_model_mixed_in() -> None:
    text = "The rain gauge is calibrated every 90 days. The visibility sensor is calibrated with the grey plate GP-11."
    answer = "The rain gauge is calibrated every 90 days with the grey plate GP-11."
    quote = cite("How often is the rain gauge calibrated?", answer, [chunk(text)])[0].quote
    assert quote == "The rain gauge is calibrated every 90 days."


def test_a_quote_leaves_headings_out() -> None:
    text = (
        "Operating handbook\n4.1 Rain gauge calibration\n"
        "The rain gauge is calibrated every 90 days. For the calibration of the gauge, Rhona Keil pours\n"
        "500 ml of water through the funnel."
    )
    quote = cite("How often is the rain gauge calibrated?", "Every 90 days.", [chunk(text)])[0].quote
    assert quote == "The rain gauge is calibrated every 90 days."


def test_a_quote_is_no_running_title() -> None:
    pages = [chunk(f"Halden Point | The handbook\n\n{text}", page) for page, text in ((1, "Rain falls."), (2, "Fog."))]
    assert [cite("", "The handbook of Halden Point.", some)[0].quote for some in (pages[:1], pages)] == [
        "Halden Point | The handbook",
        "Rain falls.",
    ]


def test_a_quote_from_a_table_is_one_row() -> None:
    rows = ["Code | Fault | Remedy", "F02 | Fan does not turn | Replace the motor", "F03 | Frozen | Thaw for two hours"]
    quote = cite("What does F03 mean?", "F03 is frozen; thaw for two hours.", [chunk("\n".join(rows))])[0].quote
    assert quote == rows[2]


def test_a_citation_whose_quote_or_page_is_not_that_of_its_chunk_is_dropped() -> None:
    chunks = [chunk("The mast is 12 metres high.", page=2)]
    true = Citation(chunks[0].file_id, chunks[0].filename, 2, "The mast is 12 metres high.", 0)
    invented = replace(true, quote="The mast is 21 metres high.")
    elsewhere = [
        replace(true, page=3),
        replace(true, index=1),
        replace(true, file_id="file-x"),
        replace(true, quote=""),
    ]
    assert checked([true, invented, *elsewhere], chunks) == [true]


def test_a_lower_ranked_chunk_is_cited_only_when_nearly_all_of_the_answer_stands_in_it() -> None:
    first, second = chunk("Cats sleep.", page=1), chunk("The mast is 12 metres high and painted orange.", page=2)
    assert cite("How high?", "The mast is 12 metres high.", [first, second])[0].page == 2
    assert cite("How high?", "The mast is 12 feet long, blue, old and never painted.", [first, second]) == []


def test_what_was_copied_from_a_chunk_about_something_else_is_not_cited() -> None:
    asked = "Which benefactor left the library most money, and to what end?"
    assert cite(asked, "The rain gauge is calibrated every 90 days.", [RAIN]) == []
    assert cite("And what of that?", "The rain gauge is calibrated every 90 days.", [RAIN])[0].file_id == RAIN.file_id
