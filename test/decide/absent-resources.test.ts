// When the API server's lack of MetalLB's custom resources is worth a word.
import { expect, test } from "vitest";
import { absentResourceNotices } from "../../src/decide/absent-resources.ts";
import type { ApiStats } from "../../src/model/source.ts";

const resource = (name: string, absent: boolean): ApiStats["resources"][number] => ({
  ...{ resource: name, connected: !absent, synced: true, absent, lastEventMs: 0 },
  ...{ lists: 0, watches: 0, relists: {}, errors: {}, heldLists: 0 },
});

test.each([
  { name: "nothing of manifests", resources: undefined, services: 3, said: undefined },
  {
    name: "nothing while they are there",
    resources: [resource("ipaddresspools", false)],
    services: 3,
    said: undefined,
  },
  {
    name: "nothing without a LoadBalancer Service",
    resources: [resource("ipaddresspools", true)],
    services: 0,
    said: undefined,
  },
  { name: "nothing of ServiceCIDRs", resources: [resource("servicecidrs", true)], services: 3, said: undefined },
  {
    name: "which of them is absent, and for how many Services it matters",
    resources: [resource("ipaddresspools", true), resource("l2advertisements", true)],
    services: 3,
    said: "the API server has no ipaddresspools and l2advertisements: LoadBalancer addresses (3 Services) are served and not announced; it is looked for them again within a minute",
  },
])("$name is said", ({ resources, services, said }) => {
  expect(absentResourceNotices(resources, services).map(({ message }) => message)).toEqual(
    said === undefined ? [] : [said],
  );
});
