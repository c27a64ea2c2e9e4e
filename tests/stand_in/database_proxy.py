"""A TCP proxy before PostgreSQL that can be cut: a database that goes away in the middle, and comes back."""

import contextlib
import select
import socket
import threading
from typing import Self

from sqlalchemy import make_url


class DatabaseProxy:
    """Use as a context manager; `url` is the database's address through it."""

    def __init__(self, url: str) -> None:
        target = make_url(url)
        self._target = (target.host or "127.0.0.1", target.port or 5432)
        self._listening = socket.create_server(("127.0.0.1", 0))
        port = self._listening.getsockname()[1]
        self.url = target.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)
        self.is_up = True
        self._is_over = False
        self._cut_at: bytes | None = None
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_up, self._is_over = False, True
        for thread in list(self._threads):
            thread.join()
        self._listening.close()

    def cut(self) -> None:
        """Drop every connection, and refuse new ones until `restore`."""
        self.is_up = False

    def restore(self) -> None:
        self.is_up = True

    def cut_at_commit_after(self, statement: str) -> None:
        """The next transaction with `statement` is committed, but nobody hears of it."""
        self._cut_at = statement.encode()

    def _accept(self) -> None:
        while not self._is_over:
            if select.select([self._listening], [], [], 0.02)[0]:
                client, _ = self._listening.accept()
                self._threads.append(threading.Thread(target=self._serve, args=(client,)))
                self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            if self.is_up:
                with socket.create_connection(self._target) as server:
                    self._pass(client, server)

    def _pass(self, client: socket.socket, server: socket.socket) -> None:
        said = b""
        while self.is_up:
            for end in select.select([client, server], [], [], 0.01)[0]:
                data = end.recv(65536)
                if not data:
                    return
                if end is server:
                    client.sendall(data)
                    continue
                said += data
                is_committing = b"COMMIT" in data
                server.sendall(data)
                if is_committing and self._cut_at is not None and self._cut_at in said:
                    self._cut_at = None
                    server.recv(65536)  # it is committed
                    self.cut()
                    return
                if is_committing or b"ROLLBACK" in data:
                    said = b""
