// Runs in the control plane's namespace: whoever connects to the unix socket of the first argument is connected to the API server.
import { rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import { API_PORT } from "./addressing.ts";

const [socketPath = ""] = process.argv.slice(2);
rmSync(socketPath, { force: true });

createServer((inner) => {
  const outer = connect(API_PORT, "127.0.0.1");
  inner.pipe(outer).pipe(inner);
  const end = () => {
    inner.destroy();
    outer.destroy();
  };
  for (const socket of [inner, outer]) socket.on("error", end).on("close", end);
}).listen(socketPath);
