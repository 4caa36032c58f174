"""bench_clients against a server that this test plays: it asks for what it says, reads streams however they are cut, and refuses wrong ones."""
import http.server
import json
import threading

import benches


class Player(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    asked = []          # bodies, in order
    plan = "stream"     # what to answer

    def log_message(self, *ignored):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Player.asked.append(body)
        if Player.plan == "refuse":
            self.send_response(400)
            self.send_header("Content-Length", "15")
            self.end_headers()
            self.wfile.write(b'{"error":"no!"}')
            return
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        made = body["n_predict"] - (1 if Player.plan == "short" else 0)
        events = [{"content": "a", "stop": False}] * made
        events.append({"content": "", "stop": True, "tokens_predicted": made, "timings": {"cache_n": 7, "prompt_n": len(body["prompt"]) - 7}})
        text = "".join(f"data: {json.dumps(event, separators=(',', ':'))}\n\n" for event in events).encode()
        if Player.plan == "cut":
            text = text[:len(text) // 2]
        step = {"crumbs": 3}.get(Player.plan, len(text))
        for at in range(0, len(text), step):
            piece = text[at:at + step]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True


def clients(port: int, *arguments, want: int = 0):
    return benches.run([benches.BUILD / "bench_clients", "--port", port, "--n-vocab", 1000, "--bos", 1, *arguments], want)


def asks_for_what_it_says(port: int) -> None:
    Player.plan, Player.asked = "stream", []
    out = clients(port, "--clients", 3, "--repeats", 2, "--warm", 1, "--own-tokens", 20, "--made-tokens", 5, "--salt", 10)
    rounds = [json.loads(line) for line in out.stdout.splitlines()]
    benches.check(len(rounds) == 2 and len(Player.asked) == 9, f"{len(rounds)} rounds, {len(Player.asked)} requests")
    for one in rounds:
        benches.check(one["made"] == [5] * 3 and one["cached"] == [7] * 3 and one["evaluated"] == [13] * 3, str(one))
        benches.check(all(0 < first <= one["us"] for first in one["first_token_us"]) and one["client_cpu_us"] >= 0, str(one))
    prompts = [tuple(body["prompt"]) for body in Player.asked]
    benches.check(len(set(prompts)) == 9 and len({prompt[1] for prompt in prompts}) == 9, "prompts that begin alike")
    benches.check(all(len(prompt) == 20 and prompt[0] == 1 and all(500 <= token < 1000 for token in prompt[1:]) for prompt in prompts), str(prompts[0]))
    body = Player.asked[-1]
    wanted = {"n_predict": 5, "stream": True, "ignore_eos": True, "cache_prompt": False, "id_slot": -1, "temperature": 0.8, "top_k": 40,
              "top_p": 0.95, "min_p": 0.05, "repeat_penalty": 1, "samplers": ["top_k", "top_p", "min_p", "temperature"]}
    benches.check({key: body.get(key) for key in wanted} == wanted, str(body))
    benches.check(len({body["seed"] for body in Player.asked}) == 9, "seeds that repeat")


def prompts_share_what_they_should(port: int) -> None:
    Player.plan, Player.asked = "stream", []
    for salt in (5, 6):
        clients(port, "--shared-tokens", 30, "--shared-salt", 4, "--own-tokens", 10, "--salt", salt, "--made-tokens", 1, "--slot", 1, "--cache", 1)
    first, second = (body["prompt"] for body in Player.asked)
    benches.check(first[:30] == second[:30] and first[30] != second[30] and len(first) == 40, "what they share")
    benches.check(Player.asked[0]["cache_prompt"] is True and Player.asked[0]["id_slot"] == 1, str(Player.asked[0]))


def reads_streams_in_crumbs(port: int) -> None:
    Player.plan = "crumbs"
    one = json.loads(clients(port, "--made-tokens", 9, "--own-tokens", 20).stdout)
    benches.check(one["made"] == [9] and one["cached"] == [7], str(one))


def wrong_answers_end_it(port: int) -> None:
    for plan, reason in (("short", "made 2 tokens, not 3"), ("cut", "without its last event"), ("refuse", "no!")):
        Player.plan = plan
        said = clients(port, "--made-tokens", 3, "--own-tokens", 20, want=1).stderr
        benches.check(reason in said, f"{plan}: {said}")


def main() -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Player)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    for test in (asks_for_what_it_says, prompts_share_what_they_should, reads_streams_in_crumbs, wrong_answers_end_it):
        test(port)
    server.shutdown()


if __name__ == "__main__":
    main()
