from tunesmith_gateway.usage import HiddenUsage, Spending, count, count_tail, spending

STREAM = b'data: {"choices":[{"text":"a"}]}\n\ndata: {"choices":[],"usage":{"total_tokens":8}}\n\ndata: [DONE]\n\n'


def test_the_usage_event_is_taken_out_however_the_stream_is_cut() -> None:
    for size in (1, 7, 40, len(STREAM)):
        hidden = HiddenUsage()
        parts = [hidden.pass_on(STREAM[at : at + size]) for at in range(0, len(STREAM), size)]
        assert b"".join([*parts, hidden.ending()]) == b'data: {"choices":[{"text":"a"}]}\n\ndata: [DONE]\n\n'


def test_tokens_are_read_from_both_dialects_and_not_from_an_answers_text() -> None:
    spent = Spending(metered=True)
    spending.set(spent)
    count({"usage": {"total_tokens": 8}})
    count({"done": True, "prompt_eval_count": 5, "eval_count": 2})
    assert (spent.tokens, spent.written) == (15, 2)
    count_tail(b'{"text":"\\"total_tokens\\":900","usage":{"total_tokens": 4}}', pieces=1)
    count_tail(b'{"done":true,"prompt_eval_count":5,"eval_count":2}\n', pieces=1)
    assert (spent.tokens, spent.written) == (26, 4)


def test_a_stream_that_was_left_costs_its_pieces() -> None:
    spent = Spending(metered=True)
    spending.set(spent)
    count_tail(b'data: {"choices":[{"text":"a"}]}\n\n', pieces=30)
    assert spent.tokens == 30
