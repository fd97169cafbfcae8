"""
How our processes talk to each other: one JSON object a line, over a stream socket, within bounds.

    codec    one line and one message, and what a line may be
    fields   the values in a message, each of the kind that its reader names
    lines    lines out of a stream, and both directions of a socket

A reader ignores fields that it does not know, so that neighbouring versions understand each other. What it cannot
read at all ends that connection and nothing else: who is at the other end may be somebody's hostile program.
"""
