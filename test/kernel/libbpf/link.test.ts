import { afterAll, beforeAll, expect, it } from "vitest";
import { itWith } from "../kernel-lacks.ts";
import { describeKernel } from "../require-kernel.ts";
import {
  compile,
  type Directory,
  temporaryBpffs,
  temporaryCgroup,
  temporaryDirectory,
  temporaryNamespace,
} from "./fixture.ts";

describeKernel("links", () => {
  let directory: Directory;
  let object: string;
  beforeAll(() => {
    directory = temporaryDirectory();
    object = compile("sample.bpf.c", directory.path);
  });
  afterAll(() => directory?.[Symbol.dispose]());

  const kinds = [
    { kind: "tcx ingress", type: "tcx", attachType: "tcx_ingress", onDevice: true },
    { kind: "tcx egress", type: "tcx", attachType: "tcx_egress", onDevice: true },
    { kind: "xdp driver", type: "xdp", attachType: "xdp", onDevice: true },
    { kind: "xdp generic", type: "xdp", attachType: "xdp", onDevice: true },
    { kind: "cgroup", type: "cgroup", attachType: "cgroup_inet4_connect", onDevice: false },
  ];
  for (const { kind, type, attachType, onDevice } of kinds) {
    const itHere = type === "tcx" ? itWith("tcx") : it;
    itHere(`${kind}: attached, replaced in place, pinned, reopened, detached, severed`, () => {
      using namespace = temporaryNamespace();
      using bpffs = temporaryBpffs();
      using cgroup = temporaryCgroup();
      const place = { kind, object, bpffs: bpffs.path, cgroup: cgroup.path };
      expect(namespace.scenario("linkLife", place)).toEqual({
        before: [],
        attached: ["old"],
        info: { type, program: "old", attachType, onDevice, onCgroup: !onDevice },
        replaced: ["replacement"],
        "pinned twice": "EEXIST",
        "closed but pinned": ["replacement"],
        "same link": true,
        "replaced over the pin": ["old"],
        "severed before": false,
        detached: [],
        "severed after detach": true,
        unpin: [true, false],
        severed: true,
        "update of severed": "ENOLINK",
        "pin of severed": true,
      });
    });
  }

  itWith("tcx")("tcx runs head before and tail after what is there", () => {
    using namespace = temporaryNamespace();
    expect(namespace.scenario("tcxOrder", { object })).toEqual({
      order: ["second", "first", "emit"],
      other: [],
      types: ["tcx", "tcx", "tcx"],
      "no such device": "ENODEV",
      "not a classifier": "EINVAL",
      "no device": "RangeError",
    });
  });

  it("tcx is refused by name when the environment takes it away", () => {
    using namespace = temporaryNamespace();
    expect(namespace.scenario("withoutTcx", { object }, { MILLRACE_WITHOUT: "tcx" })).toEqual({
      attach: "UnsupportedError",
      query: "UnsupportedError",
    });
  });

  it("a program from a pin is attached to a cgroup when its hook is named", () => {
    using namespace = temporaryNamespace();
    using bpffs = temporaryBpffs();
    using cgroup = temporaryCgroup();
    const place = { object, bpffs: bpffs.path, cgroup: cgroup.path };
    expect(namespace.scenario("pinnedProgramToCgroup", place)).toEqual({
      unnamed: "TypeError",
      named: true,
      "no cgroup": "ENOENT",
      "not a cgroup": "EBADF",
      "another hook": "EINVAL",
    });
  });
});

describeKernel("clsact", () => {
  let directory: Directory;
  let object: string;
  beforeAll(() => {
    directory = temporaryDirectory();
    object = compile("sample.bpf.c", directory.path);
  });
  afterAll(() => directory?.[Symbol.dispose]());

  it("a qdisc is made once, filters are replaced in place, and all goes away again", () => {
    using namespace = temporaryNamespace();
    expect(namespace.scenario("clsact", { object })).toEqual({
      "attach without qdisc": "EINVAL",
      "query without qdisc": "nothing",
      "detach without qdisc": false,
      "remove without qdisc": false,
      ensure: [{ created: true }, { created: false }],
      "detach nothing": false,
      attached: ["first", "second"],
      replaced: "second",
      filters: [1, 1],
      "filters found": [
        [false, false],
        [true, true],
        [false, true],
      ],
      detach: true,
      "after detach": ["nothing", "second"],
      remove: [true, false],
      "no such device": "ENODEV",
    });
  });

  it("an ingress qdisc of somebody else is named and left alone", () => {
    using namespace = temporaryNamespace();
    expect(namespace.scenario("clsactBehindIngress", {})).toEqual({
      ensure: {
        name: "IngressQdiscError",
        message:
          "could not add a clsact qdisc to device N: an 'ingress' qdisc is in the way; remove it, or use Linux N.N or later, which needs none",
      },
      remove: false,
      "left alone": true,
    });
  });
});
