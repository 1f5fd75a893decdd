// Compiled into the tests of k8s.io/kubernetes/pkg/proxy/nftables by `go test -overlay`: writes each packet that they trace
// through the proxier's rules, what they expect of it, and the objects that the proxier was given before, as one JSON object
// a line to the file that TABLES names.
package nftables

import (
	"encoding/json"
	"net"
	"os"
	"sort"
	"testing"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	"sigs.k8s.io/knftables"
)

type dumpedPacket struct {
	Test       string                     `json:"test"`
	Name       string                     `json:"name"`
	Source     string                     `json:"source"`
	Protocol   string                     `json:"protocol"`
	Address    string                     `json:"address"`
	Port       int                        `json:"port"`
	Output     string                     `json:"output"`
	Masquerade bool                       `json:"masquerade"`
	// Both change what the rules say of a client.
	MasqueradeAll bool `json:"masqueradeAll"`
	KnowsLocal    bool `json:"knowsLocal"`
	// Addresses of the node that answer on node ports.
	NodePortAddresses []net.IP `json:"nodePortAddresses"`
	Services      []*v1.Service              `json:"services"`
	Slices        []*discovery.EndpointSlice `json:"slices"`
}

func dumpPackets(t *testing.T, nft *knftables.Fake, packets []packetFlowTest) {
	given := objectsOf[nft]
	if given == nil {
		return
	}
	file, err := os.OpenFile(os.Getenv("TABLES"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		panic(err)
	}
	defer file.Close()
	proxier := given.proxier
	addresses, err := proxier.nodePortAddresses.GetNodeIPs(proxier.networkInterfacer)
	if err != nil {
		panic(err)
	}
	for _, packet := range packets {
		dumped := dumpedPacket{
			Test: t.Name(), Name: packet.name, Source: packet.sourceIP, Protocol: string(packet.protocol),
			Address: packet.destIP, Port: packet.destPort, Output: packet.output, Masquerade: packet.masq,
			MasqueradeAll: proxier.masqueradeAll, KnowsLocal: proxier.localDetector.IsImplemented(),
			NodePortAddresses: addresses,
			Services: sorted(given.services), Slices: sorted(given.slices),
		}
		if err := json.NewEncoder(file).Encode(dumped); err != nil {
			panic(err)
		}
	}
}

func sorted[Object any](objects map[string]Object) []Object {
	names := make([]string, 0, len(objects))
	for name := range objects {
		names = append(names, name)
	}
	sort.Strings(names)
	list := make([]Object, 0, len(names))
	for _, name := range names {
		list = append(list, objects[name])
	}
	return list
}
