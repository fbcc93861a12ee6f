"""A server that speaks the OpenAI chat API with scripted answers, as a process of its own: `python tests/chat_server.py SCRIPT LOG`.

The script is a JSON list with one step a request (the last one repeats): {"status": 429, "headers": {}, "body": {}} answers with an error;
{"text": "…"} streams a text, with {"pause": seconds} before each piece, {"cut": n} breaking off after n pieces, {"endless": true} without
an end, {"garbage": true} as bytes that are no event stream, {"echo_key": true} with the caller's key in it. Each request goes to the log.
"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar


class Handler(BaseHTTPRequestHandler):
    """Answers each request with the next step of the script."""

    script: ClassVar[list[dict[str, Any]]] = []
    log = Path()
    count = 0

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        step = self.script[min(Handler.count, len(self.script) - 1)]
        Handler.count += 1
        with self.log.open("a") as file:
            file.write(json.dumps({"path": self.path, "authorization": self.headers.get("Authorization"), "asked": asked}) + "\n")
        if not self.path.endswith("/chat/completions"):
            self.answer(404, {}, {"error": {"message": f"no such path: {self.path}"}})
        elif "status" in step and not (step.get("only_with") and step["only_with"] not in asked):
            body = step.get("body", {"error": {"message": f"scripted {step['status']}"}})
            if step.get("echo_key"):
                body = {"error": {"message": f"bad key {self.headers.get('Authorization')}"}}
            self.answer(step["status"], step.get("headers", {}), body)
        else:
            self.stream(step, asked)

    def answer(self, status: int, headers: dict[str, str], body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def stream(self, step: dict[str, Any], asked: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        if step.get("garbage"):
            self.wfile.write(b"data: {not json\n\n\xff\xfe\x00\n\n")
            return
        text = step.get("text", "")
        if step.get("echo_key"):
            text += f"\n# {self.headers.get('Authorization')}"
        pieces = [text[n : n + 40] for n in range(0, len(text), 40)] or [""]
        try:
            for number, piece in enumerate(pieces):
                if number == step.get("cut", -1):
                    return
                time.sleep(step.get("pause", 0))
                self.event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": piece}, "finish_reason": None}]})
            while step.get("endless"):
                self.event({"choices": [{"index": 0, "delta": {"content": "x" * 1000}, "finish_reason": None}]})
            self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
            if asked.get("stream_options") and step.get("usage", True):
                self.event({"choices": [], "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}})
            self.wfile.write(b"data: [DONE]\n\n")
        except (BrokenPipeError, ConnectionResetError):
            pass

    def event(self, value: dict[str, Any]) -> None:
        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "scripted", **value}
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


def main() -> None:
    """Serves until the process is ended; the first line of output is the port."""
    Handler.script = json.loads(Path(sys.argv[1]).read_text())
    Handler.log = Path(sys.argv[2])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
