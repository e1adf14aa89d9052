"""A WebSocket client for a test in another language, with Python's websockets.

usage: other_client.py URL

Reads orders from standard input, one a line, and prints what happens:
    send TEXT         one message
    fragments TEXT    the same in frames of 10 characters
    ping              then prints "pong" when the answer has come
    close             then prints "close CODE REASON"
It prints "open SUBPROTOCOL EXTENSION..." first and "text TEXT" for each message.
It offers compression as that library does by default.
"""
import asyncio
import sys

import websockets


def say(*words):
    print(*words, flush=True)


async def listen(socket):
    try:
        async for text in socket:
            say("text", text)
    except websockets.ConnectionClosed:
        pass
    say("close", socket.close_code, socket.close_reason)


async def obey(socket):
    loop = asyncio.get_running_loop()
    while True:
        line = await loop.run_in_executor(None, sys.stdin.readline)
        order, _, text = line.rstrip("\n").partition(" ")
        if order == "send":
            await socket.send(text)
        elif order == "fragments":
            await socket.send([text[i : i + 10] for i in range(0, len(text), 10)])
        elif order == "ping":
            answer = await socket.ping()
            await answer
            say("pong")
        else:
            await socket.close()
            return


async def main(url):
    async with websockets.connect(
        url, subprotocols=["parley.v1"], max_size=None
    ) as socket:
        say("open", socket.subprotocol, *[e.name for e in socket.extensions])
        listener = asyncio.create_task(listen(socket))
        await obey(socket)
        await listener


sys.stdout.reconfigure(encoding="utf-8")
sys.stdin.reconfigure(encoding="utf-8")
asyncio.run(main(sys.argv[1]))
