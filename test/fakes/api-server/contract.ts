// Requests whose answers do not depend on what a cluster holds: the same lines are asked of the fake, and can be asked of
// a real API server (1.34, streaming lists on), so that the fake cannot drift from what it stands for.

export interface ContractLine {
  readonly name: string;
  readonly path: string;
  readonly status: number;
  /** The message of a Status; of a watch, the whole body. */
  readonly message: RegExp;
  /** undefined: the Status has none, or the answer is no Status. */
  readonly reason?: string;
  readonly retryAfter?: string;
  /** Holds once the first revision was compacted; a real cluster does so after five to ten minutes. */
  readonly afterCompaction?: true;
}

const SERVICES = "/api/v1/services";
const INVALID = '^ListOptions\\.meta\\.k8s\\.io "" is invalid: ';
/** Beyond what any cluster reaches. */
const FUTURE = 900_000_000_000_000;

export const CONTRACT: readonly ContractLine[] = [
  {
    name: "a list at a revision to come is a timeout",
    path: `${SERVICES}?resourceVersion=${FUTURE}`,
    status: 504,
    reason: "Timeout",
    message: new RegExp(`^Timeout: Too large resource version: ${FUTURE}, current: \\d+$`),
    retryAfter: "1",
  },
  {
    name: "a list exactly at a forgotten revision is expired",
    path: `${SERVICES}?resourceVersion=1&resourceVersionMatch=Exact`,
    status: 410,
    reason: "Expired",
    message: /^The resourceVersion for the provided list is too old\.$/,
    afterCompaction: true,
  },
  {
    name: "a list with a match and no revision is invalid",
    path: `${SERVICES}?resourceVersionMatch=Exact`,
    status: 422,
    reason: "Invalid",
    message: new RegExp(
      `${INVALID}resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided$`,
    ),
  },
  {
    name: "a list exactly at 0 is invalid",
    path: `${SERVICES}?resourceVersion=0&resourceVersionMatch=Exact`,
    status: 422,
    reason: "Invalid",
    message: new RegExp(
      `${INVALID}resourceVersionMatch: Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0"$`,
    ),
  },
  {
    name: "a list with initial events is invalid",
    path: `${SERVICES}?sendInitialEvents=true`,
    status: 422,
    reason: "Invalid",
    message: new RegExp(`${INVALID}sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list$`),
  },
  {
    name: "a watch with initial events and no match is invalid",
    path: `${SERVICES}?watch=1&sendInitialEvents=true`,
    status: 422,
    reason: "Invalid",
    message: new RegExp(
      `${INVALID}resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan$`,
    ),
  },
  {
    name: "a watch with a match alone is invalid",
    path: `${SERVICES}?watch=1&resourceVersion=1&resourceVersionMatch=NotOlderThan`,
    status: 422,
    reason: "Invalid",
    message: new RegExp(
      `${INVALID}resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided$`,
    ),
  },
  {
    name: "a list at a revision that is no number is refused",
    path: `${SERVICES}?resourceVersion=x`,
    status: 400,
    reason: "BadRequest",
    message:
      /^invalid resource version: resourceVersion: Invalid value: "x": strconv\.ParseUint: parsing "x": invalid syntax$/,
  },
  {
    name: "a watch from a revision that is no number is an error without a reason",
    path: `${SERVICES}?watch=1&resourceVersion=x`,
    status: 500,
    message: /^resourceVersion: Invalid value: "x": strconv\.ParseUint: parsing "x": invalid syntax$/,
  },
  {
    name: "a token that is none is refused",
    path: `${SERVICES}?limit=1&continue=x`,
    status: 400,
    reason: "BadRequest",
    message: /continue key is not valid/,
  },
  {
    name: "a selector that cannot be read is refused",
    path: `${SERVICES}?labelSelector=a%20b`,
    status: 400,
    reason: "BadRequest",
    message: /unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt/,
  },
  {
    name: "an object that is not there is named",
    path: "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/nowhere",
    status: 404,
    reason: "NotFound",
    message: /^endpointslices\.discovery\.k8s\.io "nowhere" not found$/,
  },
  {
    name: "a path of no API is answered in plain text",
    path: "/apis/discovery.k8s.io/v1/nothings",
    status: 404,
    message: /^404 page not found\n$/,
  },
  {
    name: "a watch from a forgotten revision is told so in its stream",
    path: `${SERVICES}?watch=1&resourceVersion=1&timeoutSeconds=5`,
    status: 200,
    message:
      /^\{"type":"ERROR","object":\{"kind":"Status","apiVersion":"v1","metadata":\{\},"status":"Failure","message":"too old resource version: 1 \(\d+\)","reason":"Expired","code":410\}\}\n$/,
  },
  {
    name: "a watch from a revision to come hears nothing, and is not refused",
    path: `${SERVICES}?watch=1&resourceVersion=${FUTURE}&allowWatchBookmarks=true&timeoutSeconds=1`,
    status: 200,
    message: /^$/,
  },
  {
    name: "a streaming list at a revision to come is an error in its stream",
    path: `${SERVICES}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=10&resourceVersion=${FUTURE}`,
    status: 200,
    message: /^\{"type":"ERROR","object":\{.*"message":"Timeout: Too large resource version: .*"code":504\}\}\n$/,
  },
  {
    name: "a streaming list ends with an annotated bookmark of its kind",
    path: "/api/v1/nodes?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1",
    status: 200,
    message:
      /\{"type":"BOOKMARK","object":\{"kind":"Node","apiVersion":"v1","metadata":\{"resourceVersion":"\d+","annotations":\{"k8s\.io\/initial-events-end":"true"\}\},"spec":\{\},"status":\{/,
  },
];
