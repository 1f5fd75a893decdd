// Pods that turn unready, die, or are taken away, behind a Service that goes on.
import type { KubernetesObject } from "../wire/kubernetes.ts";
import { UNREADY_FILE } from "./checked-cluster.ts";
import { NGINX } from "./nginx-checks.ts";
import { clientOn, demoService, eventually, expect, type SeedStory } from "./seed-story.ts";

/** Not longer than the cluster takes for anything. */
async function inTime({ cluster }: SeedStory, what: string, act: () => Promise<void>): Promise<void> {
  const began = performance.now();
  await act();
  const tookMs = Math.round(performance.now() - began);
  expect(tookMs < cluster.inForceMs, `${what} took ${tookMs} ms to be in force`);
}

const MOODY = { app: "demo-moody" };

/** Pods that say whether they are ready: those of the examples do not. */
function moodyObjects(story: SeedStory): readonly KubernetesObject[] {
  const exec = { command: ["sh", "-c", `! test -e ${UNREADY_FILE}`] };
  const readinessProbe = { exec, periodSeconds: 1, failureThreshold: 1 };
  const containers = [{ name: "web", image: "demo", readinessProbe }];
  const template = { metadata: { labels: MOODY }, spec: { containers } };
  const spec = { replicas: 3, selector: { matchLabels: MOODY }, template };
  const deployment = { apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "demo-moody" }, spec };
  return [deployment, story.inFamilies(demoService("demo-moody", MOODY))];
}

export async function turnsUnready(story: SeedStory): Promise<void> {
  const { cluster } = story;
  await story.applyObjects(moodyObjects(story));
  const names = await story.pods(MOODY, 3);
  const to = story.clusterIPs(await cluster.service("demo-moody"));
  const [first, ...others] = names as [string, ...string[]];
  await story.allAnswer({ from: story.insiders, to, port: 80, pods: names });
  await inTime(story, "making a pod unready", () => cluster.ready(first, false));
  await story.allAnswer({ from: story.insiders, to, port: 80, pods: others });
  await inTime(story, "making it ready again", () => cluster.ready(first, true));
  await story.allAnswer({ from: story.insiders, to, port: 80, pods: names });
  await cluster.delete(moodyObjects(story));
}

export async function dieAndReturn(story: SeedStory): Promise<void> {
  const { cluster } = story;
  const names = await story.pods(NGINX, 3);
  const to = story.clusterIPs(await cluster.service("nginx-service"));
  const allAnswer = async () =>
    story.allAnswer({ from: story.insiders, to, port: 80, pods: await story.pods(NGINX, 3) });
  await inTime(story, "a pod's death", () => cluster.kill(names[1]!));
  const { answers } = await cluster.probe(clientOn("node1"), { via: "tcp", host: to[0]!, port: 80, count: 20 });
  const failed = answers.find((answer) => answer.error !== "");
  expect(failed === undefined, `after a pod's death: ${failed?.error}`);
  await eventually(5000, allAnswer);
  await cluster.scale("deployment/nginx-deployment", 0);
  await story.allRefused(story.insiders, to, 80);
  await cluster.scale("deployment/nginx-deployment", 3);
  await allAnswer();
}
