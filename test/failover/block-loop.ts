// Runs on a node: blocks the event loop of a Node process for some time by a loop that does nothing, through the inspector that
// Node opens on SIGUSR1. Arguments: PID MILLISECONDS. Prints what the loop returned.
import { setTimeout as delay } from "node:timers/promises";

const [pid = "0", milliseconds = "0"] = process.argv.slice(2);
const PLACE = "http://127.0.0.1:9229/json/list";
const CLOSE = "process.getBuiltinModule('node:inspector').close()";

async function debuggerUrl(): Promise<string> {
  for (let tries = 0; ; tries++) {
    try {
      const [target] = (await (await fetch(PLACE)).json()) as { webSocketDebuggerUrl: string }[];
      if (target !== undefined) return target.webSocketDebuggerUrl;
    } catch (error) {
      if (tries > 50) throw error;
    }
    await delay(100);
  }
}

process.kill(Number(pid), "SIGUSR1");
const socket = new WebSocket(await debuggerUrl());
await new Promise((resolve, reject) => {
  socket.addEventListener("open", resolve);
  socket.addEventListener("error", () => reject(new Error("the inspector does not answer")));
});
const expression = `(() => { const end = Date.now() + ${Number(milliseconds)}; let turns = 0; while (Date.now() < end) turns++; return turns; })()`;
socket.send(JSON.stringify({ id: 1, method: "Runtime.evaluate", params: { expression, returnByValue: true } }));
const answer = await new Promise<string>((resolve) =>
  socket.addEventListener("message", ({ data }) => resolve(String(data))),
);
const { result } = JSON.parse(answer) as { result: { result: { value: number } } };
process.stdout.write(`${result.result.value}\n`);
// The inspector's port is closed again, so that another process of the node finds it free.
socket.send(JSON.stringify({ id: 2, method: "Runtime.evaluate", params: { expression: CLOSE } }));
await delay(100);
socket.close();
process.exit(0);
