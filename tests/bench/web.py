#!/usr/bin/python3
"""A web server as fast as the kernel copies: the files of one directory, nothing else. It tells its port on a descriptor."""

import contextlib
import os
import socket
import sys
import threading


def serve(directory, ready):
    """A web server in a process of its own, as fast as the kernel copies: the files of this directory, nothing else."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    os.write(ready, b"%d\n" % listener.getsockname()[1])

    def answer(connection):
        with connection, connection.makefile("rb") as requests:
            while True:
                line = requests.readline().split()
                while requests.readline().strip():
                    pass
                if len(line) < 2:
                    return
                name = line[1].decode().rpartition("/")[2]
                with open(os.path.join(directory, name), "rb") as file:
                    size = os.fstat(file.fileno()).st_size
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
                    connection.sendfile(file)

    def answer_quietly(connection):
        with contextlib.suppress(OSError):
            answer(connection)

    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=answer_quietly, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
