// LoadBalancer Services: their node ports and cluster addresses, and where somebody gives them, their own addresses.
import { LAN_PREFIX } from "./addressing.ts";
import type { LoadBalancing } from "./checked-cluster.ts";
import { NGINX, nginxAnswers, nginxAnswersOnNodePort, OUTSIDE } from "./nginx-checks.ts";
import type { Group } from "./seed-group.ts";
import { clientOn, demoService, expect } from "./seed-story.ts";

const FIRST_ANSWER_MS = 10_000;

export const replicationController: Group = {
  seeds: ["03-replication-controller", "04-rc-exposed", "13-lb-pool"],
  async run(story, check) {
    await check("03-replication-controller", "two pods answer in turn behind a ClusterIP", async () => {
      await story.apply("03-replication-controller", "04-rc-exposed");
      const names = await story.pods({ app: "nginx" }, 2);
      const service = await story.cluster.service("podtoservcie");
      await story.allAnswer({ from: story.insiders, to: story.clusterIPs(service), port: 80, pods: names });
    });
    await check("04-rc-exposed", "without a pool there is no address, and everything else answers", async () => {
      const names = await story.pods({ app: "nginx" }, 2);
      const service = await story.cluster.service("my-second-service");
      const given = story.loadBalancerAddresses(service);
      expect(given.length === 0, `my-second-service has the address ${given.join(", ")} without any pool`);
      await story.expectNotice("Service default/my-second-service", /^no-pool\b/);
      await story.allAnswer({ from: story.insiders, to: story.clusterIPs(service), port: 80, pods: names });
      for (const node of story.nodes) {
        const to = await story.nodeAddresses(node);
        const port = story.nodePort(service);
        await story.allAnswer({ from: [...OUTSIDE, clientOn(node)], to, port, pods: names });
      }
    });
    if (story.cluster.loadBalancing !== undefined) {
      await check("13-lb-pool", "with the pool the waiting Service gets an address", async () => {
        await story.apply("13-lb-pool");
        const names = await story.pods({ app: "nginx" }, 2);
        const service = await story.cluster.service("my-second-service");
        const addresses = story.loadBalancerAddresses(service);
        const areOurs = addresses.length > 0 && addresses.every(isFromPool);
        expect(areOurs, `my-second-service has the address '${addresses.join(", ")}', which is not of the pool`);
        await story.allAnswer({ from: [...OUTSIDE, ...story.insiders], to: addresses, port: 80, pods: names });
      });
    }
    await story.delete("13-lb-pool", "04-rc-exposed", "03-replication-controller");
  },
};

function isFromPool(address: string): boolean {
  const last = Number(address.slice(LAN_PREFIX.length + 1));
  return address.startsWith(`${LAN_PREFIX}.`) && last >= 110 && last <= 119;
}

export const loadBalancer: Group = {
  seeds: ["05-deployment", "10-nodeport-30001", "13-lb-pool", "14-loadbalancer"],
  async run(story, check) {
    const { cluster } = story;
    const { loadBalancing } = cluster;
    const type = "LoadBalancer";
    const extra = [
      demoService("demo-lb-free", NGINX, { type }),
      demoService("demo-lb-foreign", NGINX, { type, loadBalancerIP: "192.168.200.1" }),
    ];
    const address = "192.168.122.111";
    await check("14-loadbalancer", "node port and ClusterIP answer", async () => {
      await story.apply("05-deployment", "10-nodeport-30001", "13-lb-pool", "14-loadbalancer");
      const names = await story.pods(NGINX, 3);
      const service = await cluster.service("nginxlb");
      await nginxAnswersOnNodePort(story, story.nodePort(service), 3);
      await story.allAnswer({ from: story.insiders, to: story.clusterIPs(service), port: 80, pods: names });
    });
    if (loadBalancing !== undefined) {
      await check("14-loadbalancer", `${address} is answered by exactly one node, and leads to every pod`, async () => {
        const given = story.loadBalancerAddresses(await cluster.service("nginxlb"));
        expect(given.join() === address, `nginxlb has the address '${given.join(", ")}'`);
        await oneHolder(loadBalancing, address);
        const names = await story.pods(NGINX, 3);
        await story.allAnswer({ from: [...OUTSIDE, ...story.insiders], to: given, port: 80, pods: names });
      });
    }
    await check("10-nodeport-30001", "goes on at 30001 beside the LoadBalancer", async () =>
      nginxAnswersOnNodePort(story, 30001, 3),
    );
    await check("05-deployment", "answers through both Services", async () => nginxAnswers(story));
    if (loadBalancing !== undefined) {
      await check("13-lb-pool", "free addresses come from the pool, others are not given", async () => {
        await story.applyObjects(extra);
        const addresses = story.loadBalancerAddresses(await cluster.service("demo-lb-free"));
        const isFree = addresses.length === 1 && addresses.every(isFromPool) && addresses[0] !== address;
        expect(isFree, `demo-lb-free has the address '${addresses.join(", ")}'`);
        await oneHolder(loadBalancing, addresses[0]!);
        await story.allAnswer({ from: OUTSIDE, to: addresses, port: 80, pods: await story.pods(NGINX, 3) });
        const refused = story.loadBalancerAddresses(await cluster.service("demo-lb-foreign"));
        expect(refused.length === 0, `demo-lb-foreign has the address ${refused.join(", ")}`);
        await story.expectNotice("Service default/demo-lb-foreign", /^not-in-pool\b/);
      });
      await cluster.delete(extra);
    }
    await story.delete("14-loadbalancer", "13-lb-pool", "10-nodeport-30001", "05-deployment");
  },
};

/** Who is given an address asks the LAN first whether it is free, and on a busy machine takes its time. */
async function oneHolder(loadBalancing: LoadBalancing, address: string): Promise<void> {
  const end = performance.now() + FIRST_ANSWER_MS;
  let holders = await loadBalancing.holders("client1", address);
  while (holders.length === 0 && performance.now() < end) holders = await loadBalancing.holders("client1", address);
  expect(holders.length === 1, `ARP for ${address} is answered by ${holders.join(", ") || "nobody"}`);
}
