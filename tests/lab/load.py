#!/usr/bin/python3
"""Constant load on one address, over kept, fresh and slow connections; counts every request that fails, and never tries
one again.

Says "here" when it runs; begins when it reads its plan, one line of JSON; ends with the end of its standard input, when all
requests under way have had their answers, and prints what it has seen as one line of JSON.
"""

import asyncio
import collections
import json
import sys
import time

UPLOAD = b"an item of a long order\n" * 40
GREETING = b"the shop is open\n" * 20
PIECES = 10


class Failure(Exception):
    """A request that did not get the whole answer it had to get."""


class Load:
    def __init__(self, plan):
        self.plan = plan
        self.stopping = asyncio.Event()
        self.requests = collections.Counter()
        self.failed = collections.defaultdict(collections.Counter)
        self.failures = []
        self.members = collections.defaultdict(collections.Counter)
        self.connections = 0
        self.slowest = collections.Counter()

    # One request

    async def connect(self):
        try:
            connection = await asyncio.open_connection(self.plan["host"], self.plan["port"])
        except OSError as error:
            raise Failure(f"connect: {error.strerror or error}") from None
        self.connections += 1
        return connection

    async def exchange(self, connection, send, expect, keep):
        """Sends one request and reads its answer; True when the connection may carry another one."""
        reader, writer = connection
        try:
            await send(writer, keep)
            status, headers = await self.read_head(reader)
            body = await self.read_body(reader, headers)
        except (ConnectionError, BrokenPipeError) as error:
            raise Failure(f"reset: {error.strerror or error}") from None
        if status != 200:
            raise Failure(f"status {status}")
        if body != expect:
            raise Failure("another answer than expected")
        self.members[headers.get("x-member")][int(time.time())] += 1
        return headers.get("connection", "").lower() != "close"

    @staticmethod
    async def read_head(reader):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            raise Failure("truncated head" if error.partial else "closed without an answer") from None
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = dict((name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines if line))
        return int(first.split()[1]), headers

    @staticmethod
    async def read_body(reader, headers):
        try:
            if headers.get("transfer-encoding", "").lower() != "chunked":
                return await reader.readexactly(int(headers["content-length"]))
            body = b""
            while size := int(await reader.readuntil(b"\r\n"), 16):
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readexactly(2)
            return body
        except asyncio.IncompleteReadError:
            raise Failure("truncated body") from None

    async def counted(self, kind, exchange, patience):
        """Carries out one request and counts it; returns what it returned, None when it failed."""
        began = time.monotonic()
        self.requests[kind] += 1
        reason = None
        try:
            return await asyncio.wait_for(exchange, patience)
        except Failure as failure:
            reason = str(failure)
        except asyncio.TimeoutError:
            reason = f"no answer within {patience} s"
        finally:
            self.slowest[kind] = max(self.slowest[kind], round(time.monotonic() - began, 3))
            if reason:
                self.failed[kind][reason] += 1
                self.failures.append((round(time.time(), 3), kind, reason))
        return None

    # Kinds of requests

    async def send_get(self, writer, keep, path="/"):
        connection = "keep-alive" if keep else "close"
        writer.write(f"GET {path} HTTP/1.1\r\nHost: shop\r\nConnection: {connection}\r\n\r\n".encode())
        await writer.drain()

    async def send_order(self, writer, keep, seconds=0):
        writer.write(f"POST /order HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nContent-Length: {len(UPLOAD)}\r\n\r\n".encode())
        size = len(UPLOAD) // PIECES
        for at in range(0, len(UPLOAD), size):
            writer.write(UPLOAD[at:at + size])
            await writer.drain()
            await asyncio.sleep(seconds / PIECES)

    async def on_new_connection(self, send, expect):
        connection = await self.connect()
        try:
            await self.exchange(connection, send, expect, keep=False)
        finally:
            connection[1].close()

    async def kept(self):
        """Request after request on one connection, for as long as the server keeps it."""
        connection = None

        async def exchange():
            nonlocal connection
            if connection is None:
                connection = await self.connect()
            return await self.exchange(connection, self.send_get, GREETING, keep=True)

        while not self.stopping.is_set():
            may_go_on = await self.counted("kept", exchange(), self.plan["patience"])
            if not may_go_on and connection is not None:
                connection[1].close()
                connection = None
            await self.pause(self.plan["pause"])
        if connection is not None:
            connection[1].close()

    async def fresh(self):
        """Each request on a connection of its own, at a constant rate whatever the answers do; every fourth is an upload."""
        under_way = set()
        number = 0
        while not self.stopping.is_set():
            send, expect = (self.send_order, f"{len(UPLOAD)} bytes ordered\n".encode()) if number % 4 == 3 else (self.send_get, GREETING)
            task = asyncio.create_task(self.counted("fresh", self.on_new_connection(send, expect), self.plan["patience"]))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            number += 1
            await self.pause(1 / self.plan["freshPerSecond"])
        if under_way:
            await asyncio.wait(under_way)

    async def slow(self, upload):
        """Answers, or uploads, that take seconds."""
        seconds = self.plan["slowSeconds"]
        answer = b"".join(f"piece {number} of a long answer\n".encode() for number in range(PIECES))

        async def send_slow_get(writer, keep):
            await self.send_get(writer, keep, f"/slow?seconds={seconds}")

        async def send_slowly(writer, keep):
            await self.send_order(writer, keep, seconds)

        while not self.stopping.is_set():
            send, expect = (send_slowly, f"{len(UPLOAD)} bytes ordered\n".encode()) if upload else (send_slow_get, answer)
            await self.counted("slow", self.on_new_connection(send, expect), self.plan["patience"] + seconds)
            await self.pause(0.05)

    async def pause(self, seconds):
        try:
            await asyncio.wait_for(self.stopping.wait(), seconds)
        except asyncio.TimeoutError:
            pass

    async def run(self, end):
        workers = [self.kept() for _ in range(self.plan["kept"])] + [self.fresh()]
        workers += [self.slow(upload=number % 2 == 1) for number in range(self.plan["slow"])]
        tasks = [asyncio.create_task(worker) for worker in workers]
        await end.read()
        self.stopping.set()
        await asyncio.gather(*tasks)
        return {"requests": self.requests, "failed": self.failed, "failures": self.failures, "members": self.members,
                "connections": self.connections, "slowest": self.slowest}


async def main():
    end = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(end), sys.stdin)
    print("here", flush=True)
    plan = json.loads(await end.readline())
    print(json.dumps(await Load(plan).run(end)), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
