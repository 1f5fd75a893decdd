// One Deployment behind Services of each other type, made and made anew under one name.
import { familyOf } from "../lib/address.ts";
import type { KubernetesObject } from "../wire/kubernetes.ts";
import { NGINX, nginxAnswers, nginxAnswersOnNodePort, OUTSIDE } from "./nginx-checks.ts";
import { dieAndReturn, turnsUnready } from "./pod-change-checks.ts";
import type { Group } from "./seed-group.ts";
import { clientOn, eventually, expect, type SeedStory } from "./seed-story.ts";

export const services: Group = {
  seeds: [
    "05-deployment",
    "06-clusterip",
    "07-clusterip-fixed",
    "08-headless",
    "09-nodeport-auto",
    "10-nodeport-30001",
    "11-no-selector",
    "12-external-name",
  ],
  async run(story, check) {
    await check("05-deployment", "three replicas answer through the ClusterIP", async () => {
      await story.apply("05-deployment", "06-clusterip");
      await nginxAnswers(story);
    });
    await check("06-clusterip", "by address and by name", async () => {
      await nginxAnswers(story);
      const names = await story.pods(NGINX, 3);
      const service = await story.cluster.service("nginx-service");
      await story.allResolve(story.clients, "nginx-service", story.clusterIPs(service));
      await story.allAnswer({ from: story.clients, to: ["nginx-service"], port: 80, pods: names });
    });
    await check("05-deployment", "a pod that turns unready serves nothing, and comes back", () => turnsUnready(story));
    await check("05-deployment", "dead and absent pods serve nothing, and others come in their place", () =>
      dieAndReturn(story),
    );
    await check("07-clusterip-fixed", "the same at 10.96.100.100", async () => {
      await story.apply("05-deployment", "07-clusterip-fixed");
      const service = await story.cluster.service("nginx-service");
      expect(story.clusterIPs(service)[0] === "10.96.100.100", `the address is ${story.clusterIPs(service)[0]}`);
      await nginxAnswers(story);
      await story.allResolve(story.clients, "nginx-service", story.clusterIPs(service));
      await story.allAnswer({ from: story.clients, to: ["nginx-service"], port: 80, pods: await story.pods(NGINX, 3) });
    });
    await check("08-headless", "no address, nothing in the maps, the name leads to the pods", async () => {
      await story.apply("05-deployment", "08-headless");
      const { spec } = await story.cluster.service("nginx-service");
      expect(spec.clusterIP === "None", `the cluster address is ${spec.clusterIP}`);
      await story.notInMaps("default/nginx-service");
      const found = await story.podsWith(NGINX);
      const addresses = found.flatMap((pod) => story.podAddresses(pod));
      await story.allResolve(story.clients, "nginx-service", addresses);
      await story.eachAnswers(story.clients, found);
    });
    await check("09-nodeport-auto", "a free node port answers on every node", async () => {
      await story.apply("05-deployment", "09-nodeport-auto");
      const port = story.nodePort(await story.cluster.service("nginx-service"));
      expect(port >= 30000 && port <= 32767, `the node port is ${port}`);
      await nodePortEverywhere(story, port);
    });
    await check("10-nodeport-30001", "node port 30001 answers on every node", async () => {
      await story.apply("05-deployment", "10-nodeport-30001");
      await nodePortEverywhere(story, 30001);
    });
    await check("10-nodeport-30001", "29999 is refused", () => outOfRange(story));
    await check("11-no-selector", "without a selector, Endpoints say who answers", () => handMadeEndpoints(story));
    await check("12-external-name", "the name is a CNAME and leads to nginx-service", async () => {
      await story.apply("05-deployment", "10-nodeport-30001", "12-external-name");
      await story.notInMaps("default/service-external-name");
      const name = "service-external-name.default.svc.cluster.local";
      await eventually(story.cluster.namesInForceMs, async () => {
        const names = await story.lookup(clientOn("node1"), name, "cname");
        expect(names.join() === "nginx-service.default.svc.cluster.local", `the CNAME is ${names.join(", ")}`);
      });
      const service = await story.cluster.service("nginx-service");
      await story.allResolve(story.clients, "service-external-name", story.clusterIPs(service));
      const pods = await story.pods(NGINX, 3);
      await story.allAnswer({ from: story.clients, to: ["service-external-name"], port: 80, pods });
    });
    await story.delete("12-external-name", "11-no-selector", "10-nodeport-30001", "05-deployment");
  },
};

async function nodePortEverywhere(story: SeedStory, port: number): Promise<void> {
  await nginxAnswersOnNodePort(story, port, 3);
  await nginxAnswers(story);
  await story.cluster.scale("deployment/nginx-deployment", 2);
  await nginxAnswersOnNodePort(story, port, 2);
  await story.cluster.scale("deployment/nginx-deployment", 3);
  await nginxAnswersOnNodePort(story, port, 3);
}

async function outOfRange(story: SeedStory): Promise<void> {
  const [service] = await story.example("10-nodeport-30001");
  const spec = service!["spec"] as { ports: object[] };
  const changed = { ...service!, spec: { ...spec, ports: spec.ports.map((port) => ({ ...port, nodePort: 29999 })) } };
  const said = await story.cluster.apply([changed]);
  const words = "29999: provided port is not in the valid range. The range of valid ports is 30000-32767";
  const isSaid = said.some((text) => text.includes(`Invalid value: ${words}`));
  expect(isSaid, `29999 is not refused in the API server's words, but: ${said.join("; ") || "not at all"}`);
  // The Service that was there goes on.
  await nginxAnswersOnNodePort(story, 30001, 3);
  await story.allRefused(OUTSIDE, await story.nodeAddresses("node1"), 29999);
  await story.apply("10-nodeport-30001");
}

async function handMadeEndpoints(story: SeedStory): Promise<void> {
  const { cluster } = story;
  const [service, endpoints] = (await story.example("11-no-selector")) as [KubernetesObject, KubernetesObject];
  const backends = await cluster.handMadeBackends();
  const addresses = story.asked(backends.addresses);
  const bothFamilies = addresses.some((address) => familyOf(address) === "IPv6");
  const endpointsAt = (portName: string) => ({
    ...endpoints,
    subsets: (endpoints["subsets"] as { ports: { name: string }[] }[]).map(({ ports }) => ({
      addresses: addresses.map((ip) => ({ ip })),
      ports: ports.map((port) => ({ ...port, name: portName })),
    })),
  });
  await story.applyObjects([bothFamilies ? story.inFamilies(service) : service]);
  const to = story.clusterIPs(await cluster.service("service-no-selector"));
  const all = { to, port: 80, pods: backends.names };
  await story.allRefused(story.insiders, to, 80);
  await story.applyObjects([endpointsAt("http")]);
  await story.allAnswer({ ...all, from: story.insiders });
  await story.applyObjects([endpointsAt("web")]);
  await story.expectNotice("Endpoints default/service-no-selector", /port/i);
  await story.allRefused(story.insiders, to, 80);
  await story.applyObjects([endpointsAt("http")]);
  await story.allAnswer({ ...all, from: story.clients });
  await backends.remove();
}
