// SelfSubjectAccessReview (authorization.k8s.io/v1): may whoever asks do this? By the rules of access.ts; nothing is stored.
import type { IncomingMessage, ServerResponse } from "node:http";
import { type Access, isAllowed } from "./access.ts";

export const REVIEW_PATH = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";

interface Attributes {
  readonly verb?: string;
  readonly resource?: string;
  readonly subresource?: string;
}

export async function answerReview(
  message: IncomingMessage,
  response: ServerResponse,
  access: Access,
  user: string,
): Promise<void> {
  const parts: Buffer[] = [];
  for await (const part of message) parts.push(part);
  const review = JSON.parse(Buffer.concat(parts).toString()) as { spec: { resourceAttributes: Attributes } };
  const { verb = "", resource = "", subresource = "" } = review.spec.resourceAttributes;
  const allowed = isAllowed(access, user, verb, subresource === "" ? resource : `${resource}/${subresource}`);
  response.writeHead(201, { "Content-Type": "application/json" });
  response.end(`${JSON.stringify({ ...review, status: { allowed } })}\n`);
}
