// What was applied to a lab, as an API server would keep it: objects by kind, namespace and name with a uid that stays while they
// do, the workloads among them, and what is wrong in their files. Pods are made of it elsewhere.
import { randomUUID } from "node:crypto";
import type { Notice } from "../model/objects.ts";
import { createCatalogue } from "../standalone/catalogue.ts";
import { fileOfPlace } from "../standalone/field-places.ts";
import { readManifests } from "../standalone/manifest-reader.ts";
import { type KubernetesObject, type ManifestObject, objectTitle } from "../wire/kubernetes.ts";
import { are, cannot, labNotice } from "./refusals.ts";
import { isWorkloadKind, parseWorkload, WORKLOAD_KINDS, type Workload } from "./workloads.ts";

interface AppliedObject extends ManifestObject {
  readonly uid: string;
}

/** What `apply` and the like return: how many objects, and everything wrong with them. */
export interface ChangeResult {
  readonly objects: readonly string[];
  readonly notices: readonly Notice[];
}

export interface Removal extends ChangeResult {
  /** Whose pods go. */
  readonly uids: ReadonlySet<string>;
  /** Pods that were applied as such, "namespace/name". */
  readonly pods: ReadonlySet<string>;
}

const SCALABLE = ["ReplicationController", "ReplicaSet", "Deployment", "StatefulSet"];
const SHORT: Readonly<Record<string, string>> = {
  ...{ rc: "ReplicationController", rs: "ReplicaSet", deploy: "Deployment" },
  ...{ sts: "StatefulSet", ds: "DaemonSet" },
};

export class AppliedObjects {
  /** In the order in which they were first applied. */
  readonly #objects = new Map<string, AppliedObject>();
  readonly #workloads = new Map<string, Workload>();
  /** Every workload there was, by uid: its pods outlive it. */
  readonly #owners = new Map<string, Workload>();
  readonly #notices = new Map<string, readonly Notice[]>();

  /** `isNode`: the lab has a node of this name. */
  async put(files: readonly string[], isNode: (name: string) => boolean): Promise<ChangeResult> {
    const { documents, content, notices: read } = await this.#read(files);
    const notices: Notice[] = [...read, ...content.notices];
    const objects: string[] = [];
    for (const document of [...content.skipped.values(), ...content.objects.values(), ...content.workloads.values()]) {
      const identity = objectTitle(document.object);
      const { file, object } = document;
      const { kind } = object;
      if (isWorkloadKind(kind) && !content.skipped.has(identity)) {
        const workload = parseWorkload(document, "");
        if (Array.isArray(workload)) {
          notices.push(...workload);
          continue;
        }
      } else if (content.workloads.has(identity)) {
        const about = { object: identity, file, field: "kind" };
        notices.push(labNotice(about, "workload-not-run", `the lab does not run a ${kind}`, "info"));
      }
      if (kind === "Node" && !isNode(object.metadata.name)) {
        const message = `${identity} is no node of this lab: join it first; its labels count from then on`;
        notices.push(labNotice({ object: identity, file, field: "metadata.name" }, "unknown-node", message));
      }
      this.#enter(document, !content.skipped.has(identity));
      objects.push(identity);
    }
    this.#forgetNotices(files, documents);
    // What has no object here was never applied: it was said once, and there is nothing of it to mend.
    const held = new Set(objects.map((identity) => this.fileOf(identity)));
    for (const notice of notices) {
      const file = fileOfPlace(notice.file);
      if (held.has(file)) this.#notices.set(file, [...(this.#notices.get(file) ?? []), notice]);
    }
    return { objects, notices };
  }

  async #read(files: readonly string[]) {
    const { documents, notices } = await readManifests(files);
    return { documents, notices, content: createCatalogue({ workloads: "run" }).update(documents) };
  }

  #forgetNotices(files: readonly string[], documents: readonly { readonly file: string }[]): void {
    for (const file of [...files, ...documents.map((document) => document.file)]) this.#notices.delete(file);
  }

  /** Adds or replaces; the uid of an object that was there stays. */
  #enter(document: ManifestObject, isServed: boolean): void {
    const { object } = document;
    const identity = objectTitle(object);
    const uid = this.#objects.get(identity)?.uid ?? object.metadata.uid ?? randomUUID();
    const applied = { ...document, object: { ...object, metadata: { ...object.metadata, uid } }, uid };
    this.#objects.set(identity, applied);
    if (!isServed || !isWorkloadKind(object.kind)) return;
    const workload = parseWorkload(applied, applied.uid);
    if (Array.isArray(workload)) return;
    this.#workloads.set(identity, workload);
    this.#owners.set(workload.uid, workload);
  }

  /** Takes away what the files define. */
  async remove(files: readonly string[]): Promise<Removal> {
    const { documents, content, notices: read } = await this.#read(files);
    const errors = content.notices.filter(
      ({ severity, reason }) => severity === "error" && reason !== "duplicate-object",
    );
    const notices: Notice[] = [...read, ...errors];
    const objects: string[] = [];
    const uids = new Set<string>();
    const pods = new Set<string>();
    for (const document of [...content.workloads.values(), ...content.objects.values(), ...content.skipped.values()]) {
      const object = objectTitle(document.object);
      const applied = this.#objects.get(object);
      if (applied === undefined) {
        notices.push(labNotice({ object, file: document.file }, "not-found", `${object} was not there`));
        continue;
      }
      uids.add(applied.uid);
      if (applied.object.kind === "Pod") pods.add(object.slice("Pod ".length));
      this.#objects.delete(object);
      this.#workloads.delete(object);
      objects.push(object);
    }
    this.#forgetNotices(files, documents);
    return { objects, notices, uids, pods };
  }

  /** Sets the replicas of a workload, given as KIND/NAME or KIND/NAMESPACE/NAME. @throws not_found; usage */
  scale(target: string, replicas: number): Workload {
    const [kindText = "", ...rest] = target.split("/");
    const wanted = kindText.toLowerCase();
    const kind =
      WORKLOAD_KINDS.find((one) => one.toLowerCase() === wanted.replace(/s$/, "")) ?? SHORT[wanted] ?? kindText;
    const identity = `${kind} ${rest.length === 1 ? `default/${rest[0]}` : rest.join("/")}`;
    const applied = this.#objects.get(identity);
    if (applied === undefined || !SCALABLE.includes(kind)) {
      const there = [...this.#workloads.keys()].filter((known) => SCALABLE.includes(known.split(" ")[0]!));
      const names = there.map((one) => one.toLowerCase().replace(" ", "/"));
      throw cannot("not_found", "scale", target, `there is no such workload; there ${are(names)}`);
    }
    if (!Number.isInteger(replicas) || replicas < 0 || replicas > 1000)
      throw cannot("usage", "scale", target, "the number of pods must be 0 to 1000");
    const { object } = applied;
    const changed = { ...object, spec: { ...(object["spec"] as object), replicas } };
    this.#enter({ ...applied, object: changed }, true);
    return this.#workloads.get(identity)!;
  }

  /** A bare pod that its adopter ended is not to come back from its manifest. */
  forgetPod(key: string, owner: string): void {
    const manifest = this.#objects.get(`Pod ${key}`);
    if (manifest === undefined || owner === manifest.uid) return;
    this.#objects.delete(`Pod ${key}`);
    this.#workloads.delete(`Pod ${key}`);
  }

  /** Those of these objects; all of them without. */
  workloads(identities?: ReadonlySet<string>): Workload[] {
    return [...this.#workloads].filter(([one]) => identities?.has(one) ?? true).map(([, workload]) => workload);
  }

  /** What made a pod; undefined for a bare one. */
  owner(uid: string): Workload | undefined {
    const owner = this.#owners.get(uid);
    return owner?.kind === "Pod" ? undefined : owner;
  }

  /** "" when it came from none. */
  fileOf(identity: string): string {
    return this.#objects.get(identity)?.file ?? "";
  }

  nodeManifest(name: string): KubernetesObject | undefined {
    return this.#objects.get(`Node ${name}`)?.object;
  }

  /** All but Nodes and Pods, which the lab has of its own. */
  others(): ManifestObject[] {
    return [...this.#objects.values()].filter(({ object }) => object.kind !== "Node" && object.kind !== "Pod");
  }

  notices(): Notice[] {
    return [...this.#notices.values()].flat();
  }
}
