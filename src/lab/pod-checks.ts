// Pods without any Service: by their own addresses, and by their node's.
import { OUTSIDE } from "./nginx-checks.ts";
import type { Group } from "./seed-group.ts";
import { clientOn } from "./seed-story.ts";

export const pods: Group = {
  seeds: ["01-pods"],
  async run(story, check) {
    await check("01-pods", "pods reach each other by address", async () => {
      await story.apply("01-pods");
      for (const name of ["nginx-pod", "busybox"]) {
        const to = story.podAddresses(await story.pod(name));
        const other = name === "nginx-pod" ? "busybox" : "nginx-pod";
        await story.allAnswer({ from: [...story.insiders, other], to, port: 80, pods: [name] });
        await story.allPing([...story.insiders, other], to);
      }
    });
    await story.delete("01-pods");
  },
};

export const hostPorts: Group = {
  seeds: ["02-two-containers-hostport"],
  async run(story, check) {
    const seed = "02-two-containers-hostport";
    await check(seed, "two containers share one address", async () => {
      await story.apply(seed);
      const pod = await story.pod("nginxpod");
      for (const port of [80, 8800]) {
        await story.allAnswer({ from: ["nginxpod"], to: ["127.0.0.1"], port, pods: ["nginxpod"] });
        await story.allAnswer({ from: [...story.clients], to: story.podAddresses(pod), port, pods: ["nginxpod"] });
      }
    });
    await check(seed, "host ports answer on the pod's node", async () => {
      const node = await story.nodeOf("nginxpod");
      const to = await story.nodeAddresses(node);
      for (const port of [80, 8800]) {
        await story.allAnswer({ from: [...OUTSIDE, ...story.insiders], to, port, pods: ["nginxpod"] });
      }
    });
    await check(seed, "another pod's localhost:80 is its own", async () => {
      const node = await story.nodeOf("nginxpod");
      await story.allAnswer({ from: [clientOn(node)], to: ["127.0.0.1"], port: 80, pods: [clientOn(node)] });
    });
    await story.delete(seed);
  },
};
