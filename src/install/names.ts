// The names by which installer, chart and agents know each other in a cluster.

export const NAMESPACE = "kube-system";
export const DAEMON_SET = "millrace";
export const CONTROLLER = "millrace-controller";
export const ANNOUNCER_SECRET = "millrace-announcer";
export const CONFIG_MAP = "millrace";
/** Of the ConfigMap: the agent's configuration. */
export const CONFIG_KEY = "config.yaml";
/** On the ConfigMap: what `install` was told, as JSON. */
export const OPTIONS_ANNOTATION = "millrace.io/install-options";

/** The selector of the DaemonSet's pods. */
export const AGENT_PODS = "app.kubernetes.io/name=millrace,app.kubernetes.io/component=agent";
/** The selector of the Deployment's pods. */
export const CONTROLLER_PODS = "app.kubernetes.io/name=millrace,app.kubernetes.io/component=controller";

/** Who serves Services on a node: "millrace" or "kube-proxy". A node without it has whichever DaemonSet tolerates that. */
export const NODE_LABEL = "millrace.io/service-proxy";
/** On a Node: kube-proxy's rules were taken away there. */
export const CLEANED_ANNOTATION = "millrace.io/kube-proxy-removed";
/** On a Node: `uninstall` gave it back, and takes out what is left of Millrace there. */
export const DRAINING_ANNOTATION = "millrace.io/draining";
/** On pods, and the self-test's namespace, that the installer makes and removes. */
export const INSTALLER_LABEL = "millrace.io/installer";
/** The self-test's, which it makes and removes. */
export const TEST_NAMESPACE = "millrace-test";

export const FIELD_MANAGER = "millrace-install";
