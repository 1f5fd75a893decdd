import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openCluster, told } from "../../src/install/connect.ts";
import { NotReached } from "../../src/install/work.ts";
import { RequestRefused } from "../../src/kube/cluster-objects.ts";
import { Failure } from "../../src/lib/errors.ts";

const directory = mkdtempSync(join(tmpdir(), "millrace-connect-"));
const kubeconfig = join(directory, "kubeconfig");
let server: Server;
let answer: readonly [status: number, body: object | string] = [200, { gitVersion: "v1.34.4" }];

beforeAll(async () => {
  server = createServer((request, response) => {
    request.resume();
    const [status, body] = answer;
    response.writeHead(status, { "content-type": "application/json" });
    response.end(typeof body === "string" ? body : JSON.stringify(body));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const config = {
    clusters: [{ name: "c", cluster: { server: url } }],
    users: [{ name: "u", user: {} }],
    contexts: [{ name: "x", context: { cluster: "c", user: "u" } }],
    "current-context": "x",
  };
  writeFileSync(kubeconfig, JSON.stringify(config));
});
afterAll(() => {
  server.close();
  rmSync(directory, { recursive: true });
});

const status = (code: number, message: string): readonly [number, object] => [code, { kind: "Status", code, message }];

describe("a cluster's objects over a connection", () => {
  it("can be asked for as often as one likes: nothing is left on the connection", async () => {
    answer = [200, { gitVersion: "v1.34.4" }];
    const warnings: string[] = [];
    const listener = ({ name }: Error): void => void warnings.push(name);
    process.on("warning", listener);
    const cluster = await openCluster(kubeconfig, "");
    for (let times = 0; times < 30; times++) expect(await cluster.api.version()).toBe("v1.34.4");
    await new Promise((resolve) => setImmediate(resolve));
    process.off("warning", listener);
    cluster.close();
    expect(warnings).toEqual([]);
  });

  it.each<[string, readonly [number, object | string], RegExp]>([
    [
      "what the user may not",
      status(403, 'nodes is forbidden: User "a" cannot list'),
      /^could not list nodes: nodes is forbidden: User "a" cannot list \(403\)$/,
    ],
    [
      "credentials that are not known",
      status(401, "Unauthorized"),
      /^could not list nodes: the API server does not accept our credentials \(401\)$/,
    ],
    ["a page of a proxy", [200, "<html>hello</html>"], /^could not list nodes: the answer is no list: "<html>hello/],
    ["an answer without a word", [500, ""], /^could not list nodes: status 500/],
  ])("tell %s", async (_, given, expected) => {
    answer = given;
    const cluster = await openCluster(kubeconfig, "x");
    await expect(cluster.api.list("Node")).rejects.toThrow(expected);
    cluster.close();
  });

  it("are none where there are none, and nothing where the kind is not known", async () => {
    answer = status(404, "not found");
    const { api, close } = await openCluster(kubeconfig, "");
    expect(await api.get("ConfigMap", { namespace: "a", name: "b" })).toBeUndefined();
    expect(await api.list("IPAddressPool")).toEqual([]);
    expect(await api.remove("Pod", { namespace: "a", name: "b" })).toBe(false);
    expect(await api.log({ namespace: "a", name: "b" }, "c", 5)).toBe("");
    close();
  });

  it("of a kind with another version are no objects of ours", async () => {
    const { api, close } = await openCluster(kubeconfig, "");
    const object = { apiVersion: "apps/v1beta1", kind: "DaemonSet", metadata: { name: "a" } };
    await expect(api.apply(object)).rejects.toThrow("no kind DaemonSet of apps/v1beta1 is known here");
    close();
  });
});

describe("what goes wrong on the way", () => {
  it("is a failure with its exit status", async () => {
    const refused = told(() => Promise.reject(new RequestRefused(403, "could not list nodes: no (403)")));
    await expect(refused).rejects.toMatchObject({ code: "cluster", message: "could not list nodes: no (403)" });
    const conflict = told(() => Promise.reject(new RequestRefused(409, 'could not apply a: conflict with "b" (409)')));
    await expect(conflict).rejects.toThrow(/--force takes those fields over/);
    const late = told(() => Promise.reject(new NotReached("agents: 2/3 ready (after 300 s)")));
    await expect(late).rejects.toMatchObject({
      code: "timeout",
      message: expect.stringMatching(/^agents: 2\/3 ready/),
    });
    await expect(openCluster(kubeconfig, "nowhere")).rejects.toMatchObject({ code: "unreachable" });
    await expect(openCluster("", "", { HOME: directory })).rejects.toBeInstanceOf(Failure);
  });
});
