import { createServer } from "node:net";
import { expect, it } from "vitest";
import { portHolder } from "../../src/agent/port-holder.ts";
import { describeKernel } from "../kernel/require-kernel.ts";

describeKernel("who listens on a port", () => {
  it.each(["127.0.0.1", "::"])("is found among the processes that are seen: at %s", async (host) => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, host, resolve));
    const { port } = server.address() as { port: number };
    try {
      expect(await portHolder(port)).toMatch(new RegExp(`^[^ /]+ \\(process ${process.pid}\\)$`));
    } finally {
      server.close();
    }
    await new Promise((resolve) => server.once("close", resolve));
    expect(await portHolder(port)).toBe("");
  });
});
