"""Batches: a file of requests that are answered in the background, a result a line.

The runner is a loop over two tables in the gateway's own process, not a DBOS workflow. A batch is thousands of equal,
independent, repeatable calls, for which a workflow's step log would store each answer a second time, in another
database, from threads that take the interpreter from the requests that people wait for. What is needed of durability
is one row a finished line, written with the counts in one transaction.
"""
