// Compiled into the tests of k8s.io/kubernetes/pkg/proxy by `go test -overlay`: writes what they ask of CategorizeEndpoints,
// and what they expect of it, as one JSON object a line to the file that TABLES names.
package proxy

import (
	"encoding/json"
	"os"

	"k8s.io/apimachinery/pkg/util/sets"
)

type dumpedEndpoint struct {
	Endpoint    string   `json:"endpoint"`
	Local       bool     `json:"local"`
	Ready       bool     `json:"ready"`
	Serving     bool     `json:"serving"`
	Terminating bool     `json:"terminating"`
	ZoneHints   []string `json:"zoneHints"`
	NodeHints   []string `json:"nodeHints"`
}

type dumpedCase struct {
	Name          string            `json:"name"`
	NodeHints     bool              `json:"nodeHints"`
	NodeName      string            `json:"nodeName"`
	NodeLabels    map[string]string `json:"nodeLabels"`
	External      bool              `json:"external"`
	ExternalLocal bool              `json:"externalLocal"`
	InternalLocal bool              `json:"internalLocal"`
	Endpoints     []dumpedEndpoint  `json:"endpoints"`
	// Absent when the Service has no use for them.
	Cluster    []string `json:"cluster,omitempty"`
	Local      []string `json:"local,omitempty"`
	OnlyRemote bool     `json:"onlyRemote"`
}

func dumpCategorized(name string, nodeHints bool, nodeName string, nodeLabels map[string]string, service ServicePort,
	endpoints []Endpoint, cluster, local sets.Set[string], onlyRemote bool) {
	dumped := dumpedCase{
		Name: name, NodeHints: nodeHints, NodeName: nodeName, NodeLabels: nodeLabels,
		External:      service.ExternallyAccessible(),
		ExternalLocal: service.ExternalPolicyLocal(), InternalLocal: service.InternalPolicyLocal(),
		Cluster: sets.List(cluster), Local: sets.List(local), OnlyRemote: onlyRemote,
	}
	for _, one := range endpoints {
		info := one.(*BaseEndpointInfo)
		dumped.Endpoints = append(dumped.Endpoints, dumpedEndpoint{
			Endpoint: info.endpoint, Local: info.isLocal,
			Ready: info.ready, Serving: info.serving, Terminating: info.terminating,
			ZoneHints: sets.List(info.zoneHints), NodeHints: sets.List(info.nodeHints),
		})
	}
	file, err := os.OpenFile(os.Getenv("TABLES"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		panic(err)
	}
	defer file.Close()
	if err := json.NewEncoder(file).Encode(dumped); err != nil {
		panic(err)
	}
}
