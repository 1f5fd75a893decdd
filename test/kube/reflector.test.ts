// The list and watch loop against a server that the test plays, on a clock that the test turns.
import { describe, expect, it, onTestFinished } from "vitest";
import { ApiError } from "../../src/kube/api-error.ts";
import { createKnownObjects } from "../../src/kube/known-objects.ts";
import { createReflector, type Reflector } from "../../src/kube/reflector.ts";
import { RESOURCES, type ResourceName } from "../../src/kube/resources.ts";
import type { Change } from "../../src/kube/row.ts";
import { eventKind, takeObject } from "../../src/kube/take-object.ts";
import { createManualClock, type ManualClock, settled } from "./manual-clock.ts";
import { bookmark, errorEvent, event, type Json, page, pool, service, slice, status } from "./objects.ts";
import { type Call, createScriptedTransport, type ScriptedTransport } from "./scripted-transport.ts";

interface Setup {
  readonly reflector: Reflector;
  readonly transport: ScriptedTransport;
  readonly clock: ManualClock;
  readonly changes: Change[];
  /** Keys of what is there after all changes, with "name:port,port" for Services. */
  present(): string[];
  /** Turns the clock to the next request, at most `withinMs`. */
  nextCall(withinMs?: number): Promise<Call>;
}

interface Options {
  readonly resource?: ResourceName;
  readonly trustLists?: boolean;
  readonly room?: () => Promise<void> | undefined;
}

async function start({
  resource: name = "services",
  trustLists = false,
  room = () => undefined,
}: Options = {}): Promise<Setup> {
  const resource = RESOURCES.find((one) => one.name === name)!;
  const transport = createScriptedTransport();
  const clock = createManualClock();
  const changes: Change[] = [];
  const present = new Map<string, string>();
  const objects = createKnownObjects({
    kind: eventKind(resource.kind),
    take: (object) => takeObject(resource.kind, object),
    emit(change) {
      changes.push(change);
      if (change.content === undefined) present.delete(change.key);
      else
        present.set(change.key, change.kind === "Service" ? change.content!.ports.map(({ port }) => port).join() : "");
    },
    trustLists,
  });
  const stop = new AbortController();
  const reflector = createReflector({
    resource,
    transport,
    objects,
    clock,
    random: () => 0.5,
    signal: stop.signal,
    room,
    onChange() {},
  });
  const running = reflector.run();
  onTestFinished(async () => {
    stop.abort();
    await running;
  });
  await settled();
  let seen = 0;
  return {
    reflector,
    transport,
    clock,
    changes,
    present: () =>
      [...present].map(([key, text]) => `${key.replace("default/", "")}${text === "" ? "" : `:${text}`}`).sort(),
    async nextCall(withinMs = 60_000) {
      await settled();
      for (let waited = 0; transport.calls.length === seen && waited < withinMs; waited += 50) await clock.advance(50);
      expect(transport.calls.length, "requests").toBe(seen + 1);
      seen++;
      return transport.last();
    },
  };
}

/** A streaming list of these objects, then the watch that it becomes. */
async function listed(setup: Setup, objects: readonly Json[], version = 10): Promise<Call> {
  const call = await setup.nextCall();
  call.answer(200);
  call.send(objects.map((object) => event("ADDED", object)).join(""));
  call.send(bookmark(version, true));
  await settled();
  return call;
}

function many(count: number): Json[] {
  return Array.from({ length: count }, (_, i) => service(`s${i}`));
}

/** Answers a watch, with this. */
function sends(text: string): (call: Call) => void {
  return (call) => {
    call.answer(200);
    call.send(text);
  };
}

describe("the first list", () => {
  it("is streamed, narrowed as kube-proxy does, and becomes a watch", async () => {
    const setup = await start({ resource: "endpointslices" });
    const call = await listed(setup, [slice("web-1"), slice("web-2", { addresses: ["10.244.1.6", "10.244.1.7"] })], 42);
    expect(call.path).toBe("/apis/discovery.k8s.io/v1/endpointslices");
    expect(call.query).toEqual({
      watch: "true",
      allowWatchBookmarks: "true",
      sendInitialEvents: "true",
      resourceVersionMatch: "NotOlderThan",
      timeoutSeconds: "450",
      labelSelector: "!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name",
    });
    expect(setup.present()).toEqual(["web-1", "web-2"]);
    expect(setup.reflector.stats()).toMatchObject({ connected: true, synced: true, resourceVersion: "42", lists: 1 });
    call.send(event("DELETED", slice("web-1", { version: 43 })));
    await settled();
    expect(setup.present()).toEqual(["web-2"]);
    expect(setup.reflector.stats()).toMatchObject({ resourceVersion: "43" });
  });

  it("is in force only when its end came", async () => {
    const setup = await start();
    const call = await setup.nextCall();
    call.answer(200);
    call.send(event("ADDED", service("a")));
    await settled();
    expect(setup.reflector.stats()).toMatchObject({ synced: false, resourceVersion: "" });
    call.send(event("ADDED", service("b")) + event("DELETED", service("a")) + bookmark(9, true));
    await settled();
    expect(setup.present()).toEqual(["b:80"]);
    expect(setup.reflector.stats().synced).toBe(true);
  });

  it.each([400, 422])("comes in pages from a server that answers a streaming list with %i", async (code) => {
    const setup = await start({ resource: "endpointslices" });
    (await setup.nextCall()).answer(code, JSON.stringify(status(code, "Invalid", "sendInitialEvents is forbidden")));
    const first = await setup.nextCall(0);
    expect(first.query).toEqual({ limit: "500", labelSelector: expect.any(String) });
    first.answer(200, page(7, [slice("a"), slice("b")], "token"));
    const second = await setup.nextCall(0);
    expect(second.query).toMatchObject({ continue: "token" });
    second.answer(200, page(7, [slice("c")]));
    const watch = await setup.nextCall(0);
    expect(watch.query).toMatchObject({ watch: "true", resourceVersion: "7", allowWatchBookmarks: "true" });
    expect(watch.query).not.toHaveProperty("sendInitialEvents");
    expect(setup.present()).toEqual(["a", "b", "c"]);
    expect(setup.reflector.problem()).toBeUndefined();
  });

  it.each([
    ["streams lists", () => {}],
    ["streams none", (call: Call) => call.answer(422, "{}")],
  ] as const)("is asked for without the field that a server cannot select by, one that %s", async (_, streaming) => {
    const setup = await start();
    const refusal = JSON.stringify(status(400, "BadRequest", "field label not supported: spec.clusterIP"));
    const first = await setup.nextCall();
    expect(first.query).toMatchObject({ fieldSelector: "spec.clusterIP!=None" });
    streaming(first);
    const narrow = first.answered ? await setup.nextCall(0) : first;
    narrow.answer(400, refusal);
    const wide = await setup.nextCall(0);
    expect(wide.query).not.toHaveProperty("fieldSelector");
    expect("sendInitialEvents" in wide.query).toBe(narrow === first);
    expect(setup.reflector.problem()).toBeUndefined();
  });

  it("comes in pages from a server that streams on without an end", async () => {
    const setup = await start();
    const call = await setup.nextCall();
    call.answer(200);
    call.send(event("ADDED", service("a")));
    const pages = await setup.nextCall(11_000);
    expect(call.closed).toBe(true);
    expect(pages.query).toMatchObject({ limit: "500" });
  });

  it("comes in pages from a server that breaks a streaming list off by a failure of its own", async () => {
    const setup = await start();
    const call = await setup.nextCall();
    call.answer(200);
    call.send(errorEvent(status(500, "InternalError", "RequestWatchProgress is disabled")));
    expect((await setup.nextCall(0)).query).toMatchObject({ limit: "500" });
  });

  it("comes in pages from a server whose first bookmark ends nothing", async () => {
    const setup = await start();
    const call = await setup.nextCall();
    call.answer(200);
    call.send(event("ADDED", service("a")) + bookmark(7));
    expect((await setup.nextCall(0)).query).toMatchObject({ limit: "500" });
  });

  it("is read anew in one piece when its pages expired", async () => {
    const setup = await start();
    (await setup.nextCall()).answer(422, JSON.stringify(status(422, "Invalid", "")));
    (await setup.nextCall(0)).answer(200, page(7, [service("a"), service("gone-meanwhile")], "token"));
    (await setup.nextCall(0)).answer(410, JSON.stringify(status(410, "Expired", "too old")));
    const whole = await setup.nextCall(0);
    expect(whole.query).not.toHaveProperty("limit");
    expect(whole.query).not.toHaveProperty("continue");
    whole.answer(200, page(9, [service("a"), service("b")]));
    expect((await setup.nextCall(0)).query).toMatchObject({ resourceVersion: "9" });
    expect(setup.present()).toEqual(["a:80", "b:80"]);
  });

  it("of a resource that the server does not have is an empty one, asked for again rarely", async () => {
    const setup = await start({ resource: "servicecidrs" });
    (await setup.nextCall()).answer(404, "404 page not found\n");
    await settled();
    expect(setup.reflector.stats().synced).toBe(true);
    expect(setup.reflector.problem()).toBeUndefined();
    await setup.clock.advance(299_000);
    expect(setup.transport.calls).toHaveLength(1);
    await setup.nextCall(400_000);
  });

  it("of custom resources that the server does not have yet is asked for again within a minute", async () => {
    const setup = await start({ resource: "ipaddresspools" });
    (await setup.nextCall()).answer(404, "404 page not found\n");
    await settled();
    expect(setup.reflector.stats()).toMatchObject({ synced: true, absent: true });
    await setup.clock.advance(29_000);
    expect(setup.transport.calls).toHaveLength(1);
    const again = await setup.nextCall(31_000);
    again.answer(200);
    again.send(event("ADDED", pool("lan")) + bookmark(7, true));
    await settled();
    expect(setup.reflector.stats()).toMatchObject({ synced: true, absent: false });
    expect(setup.present()).toEqual(["metallb-system/lan"]);
  });

  it("of custom resources that a server says it does not have takes nothing away before a second answer agrees", async () => {
    const setup = await start({ resource: "ipaddresspools" });
    const watch = await listed(setup, [pool("lan")], 10);
    watch.end();
    (await setup.nextCall(6_000)).answer(404, "404 page not found\n");
    (await setup.nextCall(1_000)).answer(404, "404 page not found\n");
    await settled();
    expect(setup.present()).toEqual(["metallb-system/lan"]);
    expect(setup.reflector.problem()?.reason).toBe("list-held");
    (await setup.nextCall(6_000)).answer(404, "404 page not found\n");
    await settled();
    expect(setup.present()).toEqual([]);
    expect(setup.reflector.stats()).toMatchObject({ synced: true, absent: true });
  });

  it("of an optional resource that is withheld holds nothing up", async () => {
    const setup = await start({ resource: "servicecidrs" });
    (await setup.nextCall()).answer(403, JSON.stringify(status(403, "Forbidden", "no")));
    await settled();
    expect(setup.reflector.stats().synced).toBe(true);
    expect(setup.reflector.problem()?.reason).toBe("forbidden");
  });
});

describe("a watch", () => {
  it("that the server ends is resumed at once from the last version, bookmarks included", async () => {
    const setup = await start();
    const first = await listed(setup, [service("a")], 10);
    first.send(event("MODIFIED", service("a", { version: 11, ports: 2 })) + bookmark(25));
    for (let minute = 1; minute <= 6; minute++) {
      await setup.clock.advance(60_000);
      first.send(bookmark(30 + minute));
    }
    first.end();
    const second = await setup.nextCall(0);
    expect(second.query).toMatchObject({ resourceVersion: "36" });
    expect(second.query).not.toHaveProperty("sendInitialEvents");
    expect(setup.present()).toEqual(["a:80,81"]);
    expect(setup.reflector.stats()).toMatchObject({ lists: 1, relists: {}, errors: {} });
  });

  it("that is ended at once again and again is asked for ever more slowly", async () => {
    const setup = await start();
    (await listed(setup, [service("a")])).end();
    const times: number[] = [];
    for (let i = 0; i < 10; i++) {
      const call = await setup.nextCall();
      times.push(setup.clock.now());
      call.answer(200);
      call.end();
    }
    expect(times.at(-1)! - times[0]!).toBeGreaterThan(25_000);
    expect(setup.present()).toEqual(["a:80"]);
  });

  it("that hears nothing for 100 s is resumed, and a second one leads to a new list", async () => {
    const setup = await start();
    const first = await listed(setup, [service("a")], 10);
    await setup.clock.advance(99_000);
    expect(first.closed).toBe(false);
    const second = await setup.nextCall(2_000);
    expect(first.closed).toBe(true);
    expect(second.query).toMatchObject({ resourceVersion: "10" });
    second.answer(200);
    await setup.clock.advance(99_000);
    const third = await setup.nextCall(2_000);
    expect(third.query).toHaveProperty("sendInitialEvents");
    expect(setup.reflector.stats()).toMatchObject({ relists: { silent: 1 }, errors: { silent: 2 } });
    expect(setup.present()).toEqual(["a:80"]);
  });

  it.each([
    ["410 for an answer", (call: Call) => call.answer(410, JSON.stringify(status(410, "Expired", "too old"))), "gone"],
    ["an ERROR event 410", sends(errorEvent(status(410, "Expired", "too old"))), "gone"],
    ["an ERROR event 500", sends(errorEvent(status(500, "InternalError", "etcd"))), "server-error"],
    [
      "a version that is too large",
      (call: Call) =>
        call.answer(
          504,
          JSON.stringify(
            status(504, "Timeout", "Too large resource version", { causes: [{ reason: "ResourceVersionTooLarge" }] }),
          ),
        ),
      "version-too-large",
    ],
    ["400 for an answer", (call: Call) => call.answer(400, "{}"), "refused"],
    ["404 for an answer", (call: Call) => call.answer(404, "404 page not found"), "refused"],
    ["a line that is no JSON", sends("<html>\n"), "garbage"],
    ["JSON that is no event", sends('{"kind":"Status"}\n'), "garbage"],
    ["a bookmark of an older version", sends(bookmark(9)), "out-of-order"],
    ["an event of an older version", sends(event("MODIFIED", service("b", { version: 9, ports: 3 }))), "out-of-order"],
  ] as const)("that meets %s leads to a new list, and nothing is taken away", async (_, play, reason) => {
    const setup = await start();
    (await listed(setup, [service("a"), service("b")], 10)).end();
    play(await setup.nextCall());
    const relist = await setup.nextCall();
    expect(relist.query).toHaveProperty("sendInitialEvents");
    expect(relist.query).not.toHaveProperty("resourceVersion");
    expect(setup.reflector.stats().relists).toEqual({ [reason]: 1 });
    expect(setup.present()).toEqual(["a:80", "b:80"]);
    relist.answer(200);
    relist.send(event("ADDED", service("b", { version: 4 })) + bookmark(5, true));
    await settled();
    expect(setup.present()).toEqual(["b:80"]);
    expect(setup.reflector.problem()).toBeUndefined();
  });

  it.each([
    [
      "breaks within an event",
      (call: Call) => {
        call.send(event("MODIFIED", service("a")).slice(0, 40));
        call.end();
      },
      "truncated",
    ],
    ["breaks by an error", (call: Call) => call.fail(new ApiError("unreachable", "could not reach it")), "unreachable"],
  ] as const)("that %s is resumed", async (_, play, reason) => {
    const setup = await start();
    const first = await listed(setup, [service("a")], 10);
    await setup.clock.advance(6_000);
    play(first);
    await settled();
    expect(setup.reflector.problem()?.reason).toBe(reason);
    let second = await setup.nextCall(200);
    if (reason === "unreachable") {
      second.answer(200, page(12, [service("a")]));
      second = await setup.nextCall(0);
    }
    expect(second.query).toMatchObject({ watch: "true", resourceVersion: "10" });
    second.answer(200);
    await setup.clock.advance(5_000);
    expect(setup.reflector.problem()).toBeUndefined();
    expect(setup.present()).toEqual(["a:80"]);
  });

  it("passes on what has another content, not what has another version", async () => {
    const setup = await start();
    const watch = await listed(setup, [service("a")], 10);
    watch.send(event("MODIFIED", service("a", { version: 11 })) + event("MODIFIED", service("a", { version: 11 })));
    watch.send(event("DELETED", service("never-seen", { version: 12 })));
    await settled();
    expect(setup.changes).toHaveLength(1);
    watch.send(event("MODIFIED", service("a", { version: 13, ports: 2 })));
    await settled();
    expect(setup.changes).toHaveLength(2);
  });

  it("is not read on while there is no room for its changes", async () => {
    let makeRoom: () => void = () => {};
    let full: Promise<void> | undefined;
    const setup = await start({ room: () => full });
    const watch = await listed(setup, [], 10);
    full = new Promise((resolve) => {
      makeRoom = resolve;
    });
    watch.send(event("ADDED", service("a", { version: 11 })));
    await settled();
    watch.send(event("ADDED", service("b", { version: 12 })));
    await setup.clock.advance(500_000);
    expect(setup.present()).toEqual(["a:80"]);
    expect(watch.closed, "waiting for room is no silence").toBe(false);
    full = undefined;
    makeRoom();
    await settled();
    expect(setup.present()).toEqual(["a:80", "b:80"]);
  });
});

describe("a server that is away or unwilling", () => {
  it("is asked with full jitter below a limit that doubles up to 30 s, and takes nothing away", async () => {
    const setup = await start();
    const watch = await listed(setup, [service("a")]);
    await setup.clock.advance(6_000);
    watch.fail(new ApiError("unreachable", "could not reach it"));
    const waits: number[] = [];
    for (let i = 0; i < 11; i++) {
      const before = setup.clock.now();
      const call = await setup.nextCall();
      waits.push(setup.clock.now() - before);
      call.fail(new ApiError("unreachable", "could not reach it"));
      await settled();
    }
    expect(waits).toEqual([100, 200, 400, 800, 1600, 3200, 6400, 12_800, 15_000, 15_000, 15_000]);
    expect(setup.present()).toEqual(["a:80"]);
    expect(setup.reflector.stats()).toMatchObject({ connected: false, synced: true, errors: { unreachable: 12 } });
    (await setup.nextCall()).answer(200, page(12, [service("a")]));
    const back = await setup.nextCall(0);
    expect(back.query).toMatchObject({ watch: "true", resourceVersion: "10" });
    back.answer(200);
    back.send(event("ADDED", service("b", { version: 11 })));
    await settled();
    expect(setup.present()).toEqual(["a:80", "b:80"]);
    expect(setup.reflector.problem()).toBeUndefined();
  });

  it("is asked again soon when it answers for the first time, though not yet well", async () => {
    const setup = await start();
    const watch = await listed(setup, [service("a")]);
    watch.fail(new ApiError("unreachable", "could not reach it"));
    for (let i = 0; i < 8; i++) (await setup.nextCall()).fail(new ApiError("unreachable", "could not reach it"));
    const waits: number[] = [];
    (await setup.nextCall()).answer(503, JSON.stringify(status(503, "ServiceUnavailable", "not ready")));
    for (let i = 0; i < 3; i++) {
      const before = setup.clock.now();
      const call = await setup.nextCall();
      waits.push(setup.clock.now() - before);
      call.answer(503, JSON.stringify(status(503, "ServiceUnavailable", "not ready")));
    }
    expect(waits).toEqual([100, 200, 400]);
  });

  it("is asked whether it knows our version when it is back, and listed anew when it does not", async () => {
    const setup = await start();
    const watch = await listed(setup, [service("a"), service("b")], 50);
    watch.fail(new ApiError("unreachable", "could not reach it"));
    const check = await setup.nextCall();
    expect(check.query).toMatchObject({ resourceVersion: "50", resourceVersionMatch: "NotOlderThan", limit: "1" });
    check.answer(
      504,
      JSON.stringify(status(504, "Timeout", "Too large", { causes: [{ reason: "ResourceVersionTooLarge" }] })),
    );
    await listed(setup, [service("a")], 20);
    expect(setup.present()).toEqual(["a:80"]);
    expect(setup.reflector.stats()).toMatchObject({ resourceVersion: "20", relists: { "version-too-large": 1 } });
  });

  it.each([
    ["has the change that we saw last", [service("b", { version: 50 })], true],
    ["has it in another version", [service("b", { version: 47 })], false],
    ["does not have it", [], false],
  ])("is asked for the change that we saw last, and is watched on only when it %s", async (_, found, holds) => {
    const setup = await start();
    const watch = await listed(setup, [service("a", { version: 40 }), service("b", { version: 50 })], 55);
    watch.fail(new ApiError("unreachable", "could not reach it"));
    const check = await setup.nextCall();
    expect(check.query["fieldSelector"]).toBe("spec.clusterIP!=None,metadata.name=b,metadata.namespace=default");
    check.answer(200, page(60, found));
    const next = await setup.nextCall(0);
    expect("sendInitialEvents" in next.query).toBe(!holds);
    expect(setup.reflector.stats().relists).toEqual(holds ? {} : { "other-history": 1 });
    expect(setup.present()).toEqual(["a:80", "b:80"]);
  });

  it.each([
    ["is still gone", [], true],
    ["is there again", [service("b", { version: 47 })], false],
  ])("is asked for the object that it deleted last, and is watched on only when it %s", async (_, found, holds) => {
    const setup = await start();
    const watch = await listed(setup, [service("a"), service("b", { version: 9 })], 10);
    watch.send(event("DELETED", service("b", { version: 50 })));
    await settled();
    watch.fail(new ApiError("unreachable", "could not reach it"));
    (await setup.nextCall()).answer(200, page(60, found));
    expect("sendInitialEvents" in (await setup.nextCall(0)).query).toBe(!holds);
  });

  it.each([403, 404, 400, 422])("is listed anew when it says %i to whether it knows our version", async (code) => {
    const setup = await start();
    (await listed(setup, [service("a")], 50)).fail(new ApiError("unreachable", "could not reach it"));
    (await setup.nextCall()).answer(code, "{}");
    expect((await setup.nextCall(0)).query["resourceVersion"]).not.toBe("50");
    expect(setup.present()).toEqual(["a:80"]);
  });

  it.each([401, 429, 500, 503])("is asked for our version until it is there: %i is no answer to that", async (code) => {
    const setup = await start();
    (await listed(setup, [service("a"), service("b")], 50)).fail(new ApiError("unreachable", "could not reach it"));
    for (let i = 0; i < 3; i++) {
      const check = await setup.nextCall();
      expect(check.query).toMatchObject({ resourceVersion: "50", resourceVersionMatch: "NotOlderThan" });
      check.answer(code, "{}");
    }
    (await setup.nextCall()).answer(
      504,
      JSON.stringify(status(504, "Timeout", "Too large", { causes: [{ reason: "ResourceVersionTooLarge" }] })),
    );
    await listed(setup, [service("a")], 20);
    expect(setup.present()).toEqual(["a:80"]);
  });

  it.each([
    [429, "throttled"],
    [503, "server-error"],
  ])("that answers %i with Retry-After is left alone that long", async (code, reason) => {
    const setup = await start();
    (await setup.nextCall()).answer(code, JSON.stringify(status(code, "Busy", "later")), { "retry-after": "7" });
    await setup.clock.advance(6_900);
    expect(setup.reflector.problem()?.reason).toBe(reason);
    expect(setup.transport.calls).toHaveLength(1);
    await setup.nextCall(200);
  });

  it.each([
    {
      name: "no rights",
      code: 403,
      body: JSON.stringify(
        status(403, "Forbidden", 'services is forbidden: User "u" cannot watch resource "services"'),
      ),
      reason: "forbidden",
      message:
        'cannot watch services in the core API group at cluster scope: 403 services is forbidden: User "u" cannot watch resource "services"; grant it to our account by a ClusterRole',
    },
    {
      name: "bad credentials",
      code: 401,
      body: JSON.stringify(status(401, "Unauthorized", "Unauthorized")),
      reason: "unauthorized",
      message:
        "could not watch services: the API server does not accept our credentials (401 Unauthorized); renew the kubeconfig or the service account's token",
    },
    {
      name: "another kind of server",
      code: 404,
      body: "<html>\n<b>Not found</b>",
      reason: "not-found",
      message:
        "could not watch services: the API server does not know /api/v1/services (404 <html> <b>Not found</b>); is it a Kubernetes API server?",
    },
    {
      name: "a server's failure",
      code: 500,
      body: "",
      reason: "server-error",
      message: "could not watch services: the API server failed (status 500)",
    },
  ])("with $name is a problem that says so, and is over when it is", async ({ code, body, reason, message }) => {
    const setup = await start();
    (await setup.nextCall()).answer(code, body);
    await settled();
    expect(setup.reflector.problem()).toEqual({ reason, message });
    expect(setup.reflector.stats().errors).toEqual({ [reason]: 1 });
    await listed(setup, [service("a")]);
    expect(setup.reflector.problem()).toBeUndefined();
  });

  it("and whose answer to that never ends is given up", async () => {
    const setup = await start();
    const call = await setup.nextCall();
    call.answer(500);
    call.send('{"kind":"Sta');
    await setup.nextCall(11_000);
    expect(call.closed).toBe(true);
  });

  it("names the verb and the resource in a group when it withholds a list in pages", async () => {
    const setup = await start({ resource: "endpointslices" });
    (await setup.nextCall()).answer(422, "{}");
    (await setup.nextCall(0)).answer(403, JSON.stringify(status(403, "Forbidden", "no")));
    await settled();
    expect(setup.reflector.problem()?.message).toMatch(
      /^cannot list endpointslices in API group discovery.k8s.io at cluster scope: /,
    );
  });

  it.each([
    "<html>sign in</html>",
    "[]",
    '{"kind":"Status"}',
    '{"items":[{"a"',
    '{"items":[{"a" 1}],"metadata":{"resourceVersion":"1"}}',
  ])("and whose list is %s costs nothing but another attempt", async (body) => {
    const setup = await start();
    (await setup.nextCall()).answer(422, "{}");
    (await setup.nextCall(0)).answer(200, body);
    await settled();
    expect(["garbage", "truncated"]).toContain(setup.reflector.problem()?.reason);
    expect(setup.reflector.stats().synced).toBe(false);
    (await setup.nextCall()).answer(200, page(3, [service("a")]));
    await settled();
    expect(setup.reflector.stats().synced).toBe(true);
    expect(setup.present()).toEqual(["a:80"]);
  });
});

describe("a new list", () => {
  /** A list, and a second one after it. */
  async function relist(setup: Setup, before: readonly Json[], after: readonly Json[]): Promise<Call> {
    const watch = await listed(setup, before, 100);
    watch.send(errorEvent(status(410, "Expired", "too old")));
    return listed(setup, after, 50);
  }

  it("sends only what differs, whatever the versions say", async () => {
    const setup = await start();
    await relist(
      setup,
      [service("same", { version: 5 }), service("changed", { version: 6 }), service("gone")],
      [service("same", { version: 3 }), service("changed", { version: 6, ports: 2 }), service("new")],
    );
    expect(setup.changes.slice(3).map(({ key, content }) => [key, content === undefined])).toEqual([
      ["default/changed", false],
      ["default/new", false],
      ["default/gone", true],
    ]);
    expect(setup.reflector.stats().resourceVersion).toBe("50");
  });

  it("that takes more than half away is applied when a second one agrees, five seconds later", async () => {
    const setup = await start();
    const first = await relist(setup, many(100), [service("s0"), service("new")]);
    expect(setup.present()).toHaveLength(101);
    expect(setup.reflector.problem()).toEqual({
      reason: "list-held",
      message: "a full list of services would take away 99 of 100 frontends: it is applied when a second one agrees",
    });
    expect(first.closed).toBe(true);
    await setup.clock.advance(4_900);
    expect(setup.transport.calls).toHaveLength(2);
    await listed(setup, [service("s0"), service("new")], 51);
    expect(setup.present()).toEqual(["new:80", "s0:80"]);
    expect(setup.reflector.stats()).toMatchObject({ heldLists: 1, relists: { gone: 1, held: 1 }, lists: 3 });
    expect(setup.reflector.problem()).toBeUndefined();
  });

  it("that takes more than half away is forgotten when a second one has everything", async () => {
    const setup = await start();
    await relist(setup, many(100), []);
    await listed(setup, many(100), 120);
    expect(setup.present()).toHaveLength(100);
    expect(setup.changes).toHaveLength(100);
    expect(setup.reflector.problem()).toBeUndefined();
  });

  it("in which objects have fewer frontends is held too, and what they had is served meanwhile", async () => {
    const setup = await start();
    const large = Array.from({ length: 10 }, (_, i) => service(`s${i}`, { ports: 20 }));
    await relist(
      setup,
      large,
      large.map((_, i) => service(`s${i}`, { ports: 1 })),
    );
    expect(setup.reflector.problem()?.reason).toBe("list-held");
    expect(setup.changes).toHaveLength(10);
    await listed(
      setup,
      large.map((_, i) => service(`s${i}`, { ports: 1 })),
      52,
    );
    expect(setup.present()[0]).toBe("s0:80");
  });

  it("of endpoint slices is held by endpoints", async () => {
    const setup = await start({ resource: "endpointslices" });
    const addresses = Array.from({ length: 80 }, (_, i) => `10.244.1.${i + 1}`);
    await relist(setup, [slice("web", { addresses })], [slice("web", { addresses: addresses.slice(0, 10) })]);
    expect(setup.reflector.problem()?.message).toContain("would take away 70 of 80 endpoints");
  });

  it("of Nodes that is empty is held, and applied when a second one is empty too", async () => {
    const setup = await start({ resource: "nodes" });
    const nodes = ["node1", "node2"].map((name) => ({ metadata: { name, resourceVersion: "1" } }));
    await relist(setup, nodes, []);
    expect(setup.reflector.problem()?.message).toContain("would take away 2 of 2 Nodes");
    expect(setup.present()).toEqual(["node1", "node2"]);
    await listed(setup, [], 120);
    expect(setup.present()).toEqual([]);
  });

  it("is applied as it is when lists are trusted", async () => {
    const setup = await start({ trustLists: true });
    await relist(setup, many(100), []);
    expect(setup.present()).toEqual([]);
    expect(setup.reflector.stats().heldLists).toBe(0);
  });

  it("that breaks off takes nothing away", async () => {
    const setup = await start();
    const watch = await listed(setup, [service("a"), service("b")], 100);
    watch.send(errorEvent(status(410, "Expired", "too old")));
    const broken = await setup.nextCall();
    broken.answer(200);
    broken.send(event("ADDED", service("c")));
    broken.end();
    await settled();
    expect(setup.reflector.problem()?.reason).toBe("truncated");
    expect(setup.present()).toEqual(["a:80", "b:80", "c:80"]);
    await listed(setup, [service("b")], 120);
    expect(setup.present()).toEqual(["b:80"]);
  });
});
