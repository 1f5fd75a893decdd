import { describe, expect, it } from "vitest";
import { notePlaces, placeInFile } from "../../src/standalone/field-places.ts";
import known from "../../src/standalone/known-fields.json" with { type: "json" };
import { parseManifest } from "../../src/standalone/manifest-parser.ts";
import { unknownFields } from "../../src/standalone/unknown-fields.ts";
import { checkDocument } from "../../src/standalone/validate.ts";

const service = (spec: object, more: object = {}) => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name: "web" },
  spec,
  ...more,
});
const pod = (spec: object) => ({ apiVersion: "v1", kind: "Pod", metadata: { name: "p" }, spec });
const told = (object: { apiVersion: string; kind: string }): string[] =>
  unknownFields(object).map(({ message }) => message);

describe("unknown fields", () => {
  it.each([
    [
      "of a port",
      service({ ports: [{ port: 80, targetPrt: 8080 }] }),
      'unknown field "spec.ports[0].targetPrt"; did you mean targetPort?',
    ],
    ["of the spec", service({ selectors: {} }), 'unknown field "spec.selectors"; did you mean selector?'],
    ["of the object", service({}, { specs: {} }), 'unknown field "specs"; did you mean spec?'],
    [
      "of the metadata",
      { ...service({}), metadata: { name: "a", label: {} } },
      'unknown field "metadata.label"; did you mean labels?',
    ],
    ["with another case", service({ clusterip: "None" }), 'unknown field "spec.clusterip"; did you mean clusterIP?'],
    ["that are like no other", service({ wombat: 1 }), 'unknown field "spec.wombat"'],
    [
      "deep in a container",
      pod({ containers: [{ name: "a", ports: [{ containerport: 80 }] }] }),
      'unknown field "spec.containers[0].ports[0].containerport"; did you mean containerPort?',
    ],
    [
      "in a template",
      {
        apiVersion: "apps/v1",
        kind: "Deployment",
        metadata: { name: "d" },
        spec: { template: { spec: { contaners: [] } } },
      },
      'unknown field "spec.template.spec.contaners"; did you mean containers?',
    ],
    [
      "of a pool of MetalLB",
      { apiVersion: "metallb.io/v1beta1", kind: "IPAddressPool", metadata: { name: "p" }, spec: { address: [] } },
      'unknown field "spec.address"; did you mean addresses?',
    ],
  ])("%s are told with what was meant", (_where, object, message) => {
    expect(told(object)).toEqual([message]);
  });

  it.each([
    [
      "labels, annotations and selectors are free",
      {
        ...service({ selector: { anything: "x" } }),
        metadata: { name: "a", labels: { x: "y" }, annotations: { z: "" } },
      },
    ],
    [
      "so are resources of containers",
      pod({ containers: [{ name: "a", resources: { limits: { "nvidia.com/gpu": 1 } } }] }),
    ],
    ["kinds whose fields are not known are not judged", { apiVersion: "v1", kind: "ConfigMap", datas: {} }],
    ["nor are versions", { apiVersion: "extensions/v1beta1", kind: "Deployment", specs: {} }],
    ["wrong types are somebody else's business", service({ ports: "80" })],
    ["a list where an object belongs has no names", service({ ports: [["x"]] })],
  ])("%s", (_what, object) => {
    expect(told(object)).toEqual([]);
  });

  it("are told ten times of one object at most", () => {
    expect(told(service(Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`wombat${i}`, 1]))))).toHaveLength(
      10,
    );
  });

  it("leave the object in use", () => {
    const checked = checkDocument(service({ ports: [{ port: 80, targetPrt: 8080 }] }));
    expect(checked).toMatchObject({ errors: [], use: "used", unknown: [{ field: "spec.ports[0].targetPrt" }] });
  });

  it("are known of every kind that is used or started", () => {
    const kinds = Object.keys(known.kinds);
    for (const kind of [
      "v1 Service",
      "v1 Endpoints",
      "v1 Pod",
      "v1 Node",
      "discovery.k8s.io/v1 EndpointSlice",
      "apps/v1 StatefulSet",
      "batch/v1 CronJob",
      "metallb.io/v1beta1 L2Advertisement",
    ])
      expect(kinds).toContain(kind);
    const types = Object.entries(known.types);
    const targets = types.flatMap(([, text]) => [...text.matchAll(/:[[{]?(\w+)/g)].map(([, name]) => name ?? ""));
    expect(targets.filter((name) => !Object.hasOwn(known.types, name))).toEqual([]);
  });
});

const YAML = `# first
apiVersion: v1
kind: Service
metadata:
  name: web
  labels:
    app.kubernetes.io/name: 7
spec:
  ports:
    - port: "80"
      targetPrt: 8080
---
apiVersion: v1
kind: List
items:
  - {apiVersion: v1, kind: Service, metadata: {name: b}, spec: {type: Nodeport, ports: [{port: 1}]}}
`;

function places(text: string, isJson: boolean): Record<string, string> {
  const result = parseManifest(text, isJson);
  if ("problem" in result) throw new Error(result.problem);
  return Object.fromEntries(
    result.objects.flatMap((object, index) => {
      notePlaces(object, result.places.get(index));
      const { errors, unknown } = checkDocument(object);
      return [...errors, ...unknown].map(({ field }) => [`${index} ${field}`, placeInFile("m.yaml", object, field)]);
    }),
  );
}

describe("the place of a complaint", () => {
  it("is the value's in YAML, the key's of an unknown field, through Lists and keys with dots", () => {
    expect(places(YAML, false)).toEqual({
      "0 metadata.labels.app.kubernetes.io/name": "m.yaml:7:29",
      "1 spec.type": "m.yaml:16:71",
    });
    expect(places(YAML.replace(": 7", ": x"), false)).toEqual({
      "0 spec.ports[0].port": "m.yaml:10:13",
      "0 spec.ports[0].targetPrt": "m.yaml:11:7",
      "1 spec.type": "m.yaml:16:71",
    });
  });

  it("is there in JSON too", () => {
    const text = `{\n "apiVersion": "v1", "kind": "Service",\n "metadata": {"name": "web"},\n "spec": {"ports": [{"port": "80"}]}\n}`;
    expect(places(text, true)).toEqual({ "0 spec.ports[0].port": "m.yaml:4:30" });
  });

  it("of what is absent is that of what it belongs to", () => {
    expect(places("apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  type: ClusterIP\n", false)).toEqual({
      "0 spec.ports": "m.yaml:4:1",
    });
    expect(places("---\nkind: Service\nmetadata: {name: a}\n", false)).toEqual({ "0 apiVersion": "m.yaml:2:1" });
  });

  it.each([
    ["YAML", "a: 1\nb: [\n", false, { problem: expect.stringMatching(/sequence/), place: [3, 1] }],
    ["JSON", '{\n "a": 1,\n "b" 2}', true, { problem: expect.not.stringMatching(/position|line/), place: [3, 6] }],
  ] as const)(
    "of what is no %s is that of the mistake, and the message does not repeat it",
    (_what, text, isJson, found) => {
      expect(parseManifest(text, isJson)).toMatchObject(found);
    },
  );
});
