package replication

import (
	"fmt"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
)

// makeNamespaces makes those that are not there. Those that the owner of the job may
// not make are an error each, and lacking; the others are pulled.
func (r *run) makeNamespaces() (lacking map[naming.Namespace]bool, err error) {
	out := &lines{to: r.cfg.Printf}
	lacking = map[naming.Namespace]bool{}
	for _, ns := range append(above(r.job.To), r.plan.Create...) { // parents first
		if lacking[ns] {
			continue
		}
		there, err := r.cfg.Local.HasNamespace(ns)
		if err != nil {
			return nil, err
		}
		up, _ := ns.Parent()
		switch {
		case there:
		case lacking[up]:
			lacking[ns] = true
		case r.job.MayMake != nil && !r.job.MayMake(ns):
			lacking[ns] = true
			r.failed(out, "namespace '%s' is not there, and %s may not make it: what belongs there is left", ns, r.job.Owner)
		default:
			if err := r.cfg.Local.CreateNamespace(ns); err != nil {
				return nil, fmt.Errorf("make namespace %q: %w", ns, err)
			}
		}
	}
	return lacking, nil
}

// above returns ns and the namespaces above it, those first.
func above(ns naming.Namespace) []naming.Namespace {
	up, ok := ns.Parent()
	if !ok {
		return nil
	}
	return append(above(up), ns)
}

func shown(ns naming.Namespace) string {
	if ns == "" {
		return "root namespace"
	}
	return fmt.Sprintf("namespace '%s'", ns)
}
