// Jobs, whose pods end; DaemonSets, on every node; and pods on their node's own network.
import { OUTSIDE } from "./nginx-checks.ts";
import type { Group } from "./seed-group.ts";
import { clientOn, demoService, eventually, expect, isReady, ownerOf } from "./seed-story.ts";

export const jobs: Group = {
  seeds: ["15-job"],
  async run(story, check) {
    const { cluster } = story;
    const labels = { image: "ubuntu", test: "dpkg" };
    const service = story.inFamilies(demoService("demo-jobs", labels));
    const wanted = (await story.example("15-job")).map(({ metadata }) => `Job/${metadata.name}`);
    await check("15-job", "Jobs run, and a pod that ended serves nothing", async () => {
      await story.applyObjects([service]);
      const to = story.clusterIPs(await cluster.service("demo-jobs"));
      await story.apply("15-job");
      const ownPods = async () => (await cluster.pods()).filter((pod) => ownerOf(pod).startsWith("Job/"));
      const started = await ownPods();
      const owners = started.map(ownerOf).sort();
      expect(owners.join() === wanted.sort().join(), `the Jobs' pods are of ${owners.join(", ") || "nobody"}`);
      // They serve for a few seconds only: whoever asks must be quick.
      const names = started.map(({ metadata }) => metadata.name);
      await story.allAnswer({ from: [clientOn("node1")], to, port: 80, pods: names });
      await eventually(20_000, async () => {
        const open = (await ownPods())
          .filter(({ status }) => status?.phase !== "Succeeded")
          .map(({ metadata, status }) => `${metadata.name} is ${status?.phase}`);
        expect(open.length === 0, open.join(", "));
      });
      await eventually(cluster.inForceMs, () => story.allRefused(story.insiders, to, 80));
      const left = (await cluster.slices("demo-jobs")).flatMap(({ endpoints }) => endpoints ?? []);
      const serving = left.filter(({ conditions }) => conditions?.ready !== false || conditions.serving !== false);
      expect(serving.length === 0, `${serving.length} endpoints of the slices of demo-jobs still serve`);
      const isGone = cluster.endedPodsStay || left.length === 0;
      expect(isGone, `${left.length} endpoints are left in the slices of demo-jobs`);
    });
    await story.delete("15-job");
    await cluster.delete([service]);
  },
};

export const daemonSet: Group = {
  seeds: ["16-daemonset"],
  async run(story, check) {
    const { cluster } = story;
    const onePerNode = async () => {
      const own = (await cluster.pods()).filter((pod) => ownerOf(pod) === "DaemonSet/node-web" && isReady(pod));
      for (const { name } of await cluster.nodes()) {
        const here = own.filter(({ spec }) => spec.nodeName === name);
        expect(here.length === 1, `${name} has ${here.length} pods of node-web`);
      }
      await story.eachAnswers(story.clients, own);
    };
    await check("16-daemonset", "one pod on every node", async () => {
      await story.apply("16-daemonset");
      await onePerNode();
    });
    await check("16-daemonset", "also on a node that joins later", async () => {
      const numbers = (await cluster.nodes()).map(({ name }) => Number(name.slice("node".length)));
      await cluster.join(`node${Math.max(...numbers) + 1}`);
      await onePerNode();
    });
    await story.delete("16-daemonset");
  },
};

export const hostNetwork: Group = {
  seeds: ["17-host-network"],
  async run(story, check) {
    const seed = "17-host-network";
    const { cluster } = story;
    await check(seed, "reached at its node's address", async () => {
      await story.apply(seed);
      const to = await story.nodeAddresses(await story.nodeOf("host-web"));
      await story.allAnswer({ from: [...OUTSIDE, ...story.insiders], to, port: 8081, pods: ["host-web"] });
    });
    await check(seed, "reached through its Service", async () => {
      const to = story.clusterIPs(await cluster.service("host-web"));
      await story.allAnswer({ from: [...story.insiders, "host-web"], to, port: 80, pods: ["host-web"] });
    });
    await check(seed, "is a client of a ClusterIP", async () => {
      const to = story.clusterIPs(await cluster.service("demo-clients"));
      await story.allAnswer({ from: ["host-web"], to, port: 80, pods: story.clients });
    });
    await check(seed, "its declared port makes no host-port frontend", async () => {
      const node = await story.nodeOf("host-web");
      for (const one of story.nodes) {
        const there = (await cluster.agentBackends(one)).filter(({ backendPort }) => backendPort === 8081);
        const others = there.map((backend) => backend.service).filter((key) => key !== "default/host-web");
        expect(others.length === 0, `${one} has a host-port frontend for 8081: ${others.join(", ")}`);
        if (one !== node) await story.allRefused(OUTSIDE, await story.nodeAddresses(one), 8081);
      }
    });
    await story.delete(seed);
  },
};
