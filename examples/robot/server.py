"""A robot that is simulated in a process of its own, with a clock that does not wait: one joint, driven over a socket.

    python server.py --port 5555 --log received.jsonl

It stands for a real one.  Time goes on between commands; a command lasts until the next one, and a watchdog stops the
joint when none comes; a reset drives to near zero and is never exactly the same; one client at a time.  Everything that
it is sent is written to a file with the time, a line of JSON each, so that every movement can be accounted for.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import socketserver
import threading
import time
from pathlib import Path
from typing import Any

WATCHDOG = 5  # control periods without a command until the joint is stopped


class Robot:
    """The joint: an angle in radians and a speed; `command` is an acceleration between -1 and 1."""

    def __init__(self, period: float, log: Path) -> None:
        self.period, self.log = period, log
        self.angle, self.speed, self.command = 0.5, 0.0, 0.0
        self.commanded = time.monotonic()
        self.lock, self.busy = threading.Lock(), threading.Lock()
        threading.Thread(target=self._live, daemon=True).start()

    def _live(self) -> None:
        while True:
            time.sleep(self.period)
            with self.lock:
                if time.monotonic() - self.commanded > WATCHDOG * self.period:
                    self.command, self.speed = 0.0, 0.0
                self.speed = max(-1.0, min(1.0, self.speed + 2.0 * self.command * self.period))
                self.angle = max(-1.0, min(1.0, self.angle + self.speed * self.period))

    def note(self, what: str, **more: Any) -> None:
        """Write down what was received."""
        with self.log.open("a") as file:
            file.write(json.dumps({"time": round(time.monotonic(), 4), "what": what, **more}) + "\n")

    def see(self) -> list[float]:
        """Angle and speed."""
        with self.lock:
            return [self.angle, self.speed]

    def do(self, message: dict[str, Any]) -> dict[str, Any]:
        """Obey one message, and answer after one control period."""
        if message.get("do") == "reset":
            with self.lock:
                self.angle, self.speed, self.command = 0.5 + random.uniform(-0.05, 0.05), 0.0, 0.0
        elif message.get("do") == "step":
            with self.lock:
                self.command, self.commanded = float(message["action"]), time.monotonic()
            time.sleep(self.period)
        else:
            return {"error": f"nothing is known of {message}"}
        return {"observation": self.see()}


class Client(socketserver.StreamRequestHandler):
    """A connection: lines of JSON in, lines of JSON out."""

    def handle(self) -> None:
        """Serve one client until it goes; a second one at the same time is turned away."""
        robot: Robot = self.server.robot  # type: ignore[attr-defined]
        if not robot.busy.acquire(blocking=False):
            robot.note("refused")
            self.wfile.write(b'{"error": "somebody else drives this robot"}\n')
            return
        try:
            robot.note("connect")
            for line in self.rfile:
                message = json.loads(line)
                robot.note(message.get("do", "?"), **{k: v for k, v in message.items() if k != "do"})
                answer = robot.do(message)
                self.wfile.write(json.dumps(answer).encode() + b"\n")
        except OSError:
            pass  # the client was killed
        finally:
            robot.note("disconnect")
            robot.busy.release()


def main() -> None:
    """Serve until killed; the port is printed once it is open."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path, default=Path("received.jsonl"))
    parser.add_argument("--period", type=float, default=0.02, help="seconds of a control period")
    chosen = parser.parse_args()
    if not (math.isfinite(chosen.period) and chosen.period > 0):
        parser.error("--period must be above 0")
    socketserver.ThreadingTCPServer.allow_reuse_address = True  # it may be started again at once
    server = socketserver.ThreadingTCPServer(("127.0.0.1", chosen.port), Client)
    server.daemon_threads = True
    server.robot = Robot(chosen.period, chosen.log)  # type: ignore[attr-defined]
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
