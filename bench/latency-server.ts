// A backend of the latency benchmark: answers every connection with one letter. Arguments: letter, address, port.
import { createServer } from "node:net";

const [letter = "A", address = "", port = ""] = process.argv.slice(2);
createServer((socket) => {
  socket.on("error", () => {});
  socket.end(letter);
}).listen(Number(port), address, () => process.stdout.write("ready\n"));
