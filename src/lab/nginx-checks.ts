// The pods of example 05 through the Services of the others.
import type { SeedStory } from "./seed-story.ts";

/** Labels of its pods. */
export const NGINX = { app: "nginx-deployment" };

/** Who asks from outside of the cluster. */
export const OUTSIDE = ["client1"];

/** Every pod of nginx-service through its cluster address, from everywhere inside. */
export async function nginxAnswers(story: SeedStory, count = 3): Promise<void> {
  const names = await story.pods(NGINX, count);
  const service = await story.cluster.service("nginx-service");
  await story.allAnswer({ from: story.insiders, to: story.clusterIPs(service), port: 80, pods: names });
}

/** Every pod of example 05 through a node port, from outside through each node. */
export async function nginxAnswersOnNodePort(story: SeedStory, port: number, count: number): Promise<void> {
  const names = await story.pods(NGINX, count);
  for (const node of story.nodes)
    await story.allAnswer({ from: OUTSIDE, to: await story.nodeAddresses(node), port, pods: names });
}
