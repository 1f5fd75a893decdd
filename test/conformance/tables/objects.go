// Compiled into k8s.io/kubernetes/pkg/proxy/nftables by `go test -overlay`: keeps the objects that each proxier was given, by
// the tables that it writes to.
package nftables

import (
	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	"sigs.k8s.io/knftables"
)

type givenObjects struct {
	proxier  *Proxier
	services map[string]*v1.Service
	slices   map[string]*discovery.EndpointSlice
}

var objectsOf = map[knftables.Interface]*givenObjects{}

func givenTo(proxier *Proxier) *givenObjects {
	given := objectsOf[proxier.nftables]
	if given == nil {
		given = &givenObjects{proxier, map[string]*v1.Service{}, map[string]*discovery.EndpointSlice{}}
		objectsOf[proxier.nftables] = given
	}
	return given
}

func keepService(proxier *Proxier, before, service *v1.Service) {
	services := givenTo(proxier).services
	if before != nil {
		delete(services, before.Namespace+"/"+before.Name)
	}
	if service != nil {
		services[service.Namespace+"/"+service.Name] = service.DeepCopy()
	}
}

func keepSlice(proxier *Proxier, slice *discovery.EndpointSlice, gone bool) {
	name := slice.Namespace + "/" + slice.Name
	if gone {
		delete(givenTo(proxier).slices, name)
		return
	}
	givenTo(proxier).slices[name] = slice.DeepCopy()
}
