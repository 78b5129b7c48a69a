// Answers questions about Kubernetes NetworkPolicies with cyclonus' matcher, and lists the cases of its generator.
//
// Each line of standard input is a request, each line of standard output its answer, both JSON. A request with "cases"
// wants those that `cyclonus generate` runs by default; any other one has policies and questions about them.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	"github.com/mattfenwick/cyclonus/pkg/cli"
	"github.com/mattfenwick/cyclonus/pkg/generator"
	"github.com/mattfenwick/cyclonus/pkg/matcher"
	v1 "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
)

// An end is a pod, or an address about which nothing else is known: then Namespace is empty.
type end struct {
	Namespace       string
	NamespaceLabels map[string]string
	PodLabels       map[string]string
	IP              string
}

// A question is what one end decides about the other one. Names are those that the receiver gives the port.
type question struct {
	Ingress  bool
	Own      end
	Peer     end
	Port     int
	Names    []string
	Protocol v1.Protocol
}

type request struct {
	Policies  []*networking.NetworkPolicy
	Questions []question
	// Cases is the address of pod z/c, which some cases are about.
	Cases *string
}

type answer struct {
	Answers []bool                `json:"answers,omitempty"`
	Cases   []*generator.TestCase `json:"cases,omitempty"`
	Error   string                `json:"error,omitempty"`
}

func (e end) peer() *matcher.TrafficPeer {
	found := &matcher.TrafficPeer{IP: e.IP}
	if e.Namespace != "" {
		found.Internal = &matcher.InternalPeer{
			PodLabels: e.PodLabels, NamespaceLabels: e.NamespaceLabels, Namespace: e.Namespace,
		}
	}
	return found
}

// The matcher knows one name for a port; a pod may have several, and each of them may be the one that is let in.
func decide(policy *matcher.Policy, q question) bool {
	source, destination := q.Own.peer(), q.Peer.peer()
	if q.Ingress {
		source, destination = destination, source
	}
	names := q.Names
	if len(names) == 0 {
		names = []string{""}
	}
	for _, name := range names {
		traffic := &matcher.Traffic{
			Source: source, Destination: destination,
			ResolvedPort: q.Port, ResolvedPortName: name, Protocol: q.Protocol,
		}
		if policy.IsIngressOrEgressAllowed(traffic, q.Ingress).IsAllowed() {
			return true
		}
	}
	return false
}

func respond(line []byte) (found answer) {
	defer func() {
		if problem := recover(); problem != nil {
			found = answer{Error: fmt.Sprint(problem)}
		}
	}()
	var asked request
	if err := json.Unmarshal(line, &asked); err != nil {
		return answer{Error: err.Error()}
	}
	if asked.Cases != nil {
		namespaces := []string{"x", "y", "z"}
		return answer{Cases: generator.NewTestCaseGenerator(
			true, *asked.Cases, namespaces, nil, cli.DefaultExcludeTags).GenerateTestCases()}
	}
	policy := matcher.BuildNetworkPolicies(true, asked.Policies)
	found.Answers = make([]bool, len(asked.Questions))
	for number, one := range asked.Questions {
		found.Answers[number] = decide(policy, one)
	}
	return found
}

func main() {
	lines := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := json.NewEncoder(os.Stdout)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		if err := out.Encode(respond(line)); err != nil {
			return
		}
	}
}
