// A thread that parses one file after another, so that a hostile or merely large one never holds up the main loop. Objects
// go back in portions that are asked for one by one: taking them over is work for the main loop too.
import { parentPort } from "node:worker_threads";
import { parseManifest } from "./manifest-parser.ts";

const PORTION = 200;

let parsed: readonly unknown[] = [];
let at = 0;

parentPort?.on("message", (message: { text: string; isJson: boolean } | "next") => {
  if (message !== "next") {
    const result = parseManifest(message.text, message.isJson);
    if ("problem" in result) {
      parentPort?.postMessage(result);
      return;
    }
    parsed = result.objects;
    at = 0;
    parentPort?.postMessage({ places: result.places });
  }
  const objects = parsed.slice(at, at + PORTION);
  at += objects.length;
  const more = at < parsed.length;
  if (!more) parsed = [];
  parentPort?.postMessage({ objects, more });
});
