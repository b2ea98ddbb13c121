package node

import (
	"net/http"
	"strings"
	"sync"
	"testing"
)

// administration are all paths of the PBS protocol notes, §7: what administers
// a server. One on a line, behind its methods.
const administration = `
	GET,PUT /access/acl
	GET /access/roles
	GET /access/permissions
	GET,POST /access/users
	GET,PUT,DELETE /access/users/{userid}
	GET /access/users/{userid}/token
	GET,POST,PUT,DELETE /access/users/{userid}/token/{token-name}
	PUT /access/users/{userid}/unlock-tfa
	PUT /access/password
	GET /access/domains
	POST /access/ticket
	GET /access/tfa
	GET,POST /access/tfa/{userid}
	GET,DELETE /access/tfa/{userid}/{id}
	POST /access/openid/auth-url
	POST /access/openid/login
	GET,POST /config/access/ldap
	GET,POST /config/access/ad
	GET,POST /config/access/openid
	GET,POST /config/datastore
	GET,PUT,DELETE /config/datastore/{name}
	GET /admin/datastore
	GET /admin/datastore/{store}/active-operations
	GET /admin/datastore/{store}/rrd
	POST /admin/datastore/{store}/prune-datastore
	GET /admin/gc
	GET /admin/gc/{store}
	GET,POST /admin/datastore/{store}/gc
	POST /admin/datastore/{store}/mount
	POST /admin/datastore/{store}/unmount
	PUT /admin/datastore/{store}/s3-refresh
	GET /status/datastore-usage
	GET,POST /config/prune
	GET,PUT,DELETE /config/prune/{id}
	GET /admin/prune
	POST /admin/prune/{id}/run
	GET,POST /config/sync
	GET,PUT,DELETE /config/sync/{id}
	GET /admin/sync
	POST /admin/sync/{id}/run
	GET,POST /config/verify
	GET,PUT,DELETE /config/verify/{id}
	GET /admin/verify
	POST /admin/verify/{id}/run
	POST /pull
	POST /push
	GET,POST /config/remote
	GET,PUT,DELETE /config/remote/{name}
	GET /config/remote/{name}/scan
	GET /config/remote/{name}/scan/{store}/namespaces
	GET /config/remote/{name}/scan/{store}/groups
	GET,POST /config/traffic-control
	GET,PUT,DELETE /config/traffic-control/{name}
	GET /admin/traffic-control
	GET,POST /config/notifications/endpoints/sendmail
	GET,PUT,DELETE /config/notifications/endpoints/sendmail/{name}
	GET,POST /config/notifications/endpoints/smtp
	GET,PUT,DELETE /config/notifications/endpoints/smtp/{name}
	GET,POST /config/notifications/endpoints/gotify
	GET,PUT,DELETE /config/notifications/endpoints/gotify/{name}
	GET,POST /config/notifications/endpoints/webhook
	GET,PUT,DELETE /config/notifications/endpoints/webhook/{name}
	GET,POST /config/notifications/matchers
	GET,PUT,DELETE /config/notifications/matchers/{name}
	GET /config/notifications/targets
	POST /config/notifications/targets/{name}/test
	GET /config/notifications/matcher-fields
	GET /config/notifications/matcher-field-values
	GET,POST /config/metrics/influxdb-http
	GET,PUT,DELETE /config/metrics/influxdb-http/{name}
	GET,POST /config/metrics/influxdb-udp
	GET,PUT,DELETE /config/metrics/influxdb-udp/{name}
	GET /admin/metrics
	GET /status/metrics
	GET /nodes/{node}/tasks
	GET /nodes/{node}/tasks/{upid}/status
	GET /nodes/{node}/tasks/{upid}/log
	DELETE /nodes/{node}/tasks/{upid}
	GET /nodes
	GET /nodes/{node}/status
	GET /nodes/{node}/apt/update
	GET /nodes/{node}/certificates/info
	GET,PUT /nodes/{node}/config
	GET /nodes/{node}/disks/list
	GET,PUT /nodes/{node}/dns
	GET /nodes/{node}/journal
	GET,POST /nodes/{node}/network
	GET /nodes/{node}/report
	GET /nodes/{node}/rrd
	GET /nodes/{node}/services
	GET /nodes/{node}/subscription
	GET /nodes/{node}/syslog
	GET /nodes/{node}/time
	GET /nodes/{node}/identity
	GET,POST /config/s3
	GET,PUT,DELETE /config/s3/{id}
	PUT /admin/s3/{id}/check
	PUT /admin/s3/{id}/reset-counters
	GET,POST /config/encryption-keys
	POST,DELETE /config/encryption-keys/{id}
`

// What administers a PBS is offered here, or a sentence says why it is not: an
// empty answer would have a client believe that all is well.
func TestEverythingIsOfferedOrSaysWhyNot(t *testing.T) {
	g := newGateTest(t)
	offered := map[string]bool{}
	for _, e := range g.router.Endpoints() {
		offered[e.Method+" "+e.Path] = true
	}
	var asked sync.WaitGroup
	for line := range strings.Lines(strings.TrimSpace(administration)) {
		methods, path, _ := strings.Cut(strings.TrimSpace(line), " ")
		for method := range strings.SplitSeq(methods, ",") {
			name := method + " " + path
			if offered[name] {
				continue
			}
			asked.Go(func() {
				status, body := g.ask("admin", name)
				if status != http.StatusNotImplemented || len(strings.Fields(body)) < 3 {
					t.Errorf("%s: %d %q, want to have it, or 501 and a sentence", name, status, body)
				}
				if status, _ := g.ask("no login", name); status != http.StatusUnauthorized {
					t.Errorf("%s, no login: %d, want 401", name, status)
				}
			})
		}
	}
	asked.Wait()
}
