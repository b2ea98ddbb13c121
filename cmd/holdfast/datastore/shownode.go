package datastore

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/tier"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/daemon"
	"github.com/holdfast-mesh/holdfast/node/admin"
	"github.com/holdfast-mesh/holdfast/pbs/stores"
)

// showNode prints what is set up of a datastore of the node, and how it is.
func showNode(o *cli.Options, ctx context.Context, name string, err error) error {
	if err != nil {
		return err
	}
	c := daemon.Client(o)
	defer c.Close()
	all := map[string]json.RawMessage{}
	params := url.Values{"name": {name}, "store": {name}, "verbose": {"1"}}
	for _, path := range []string{configPath + "/{name}", adminPath + "/status", adminPath + "/gc"} {
		var part map[string]json.RawMessage
		if err := daemon.Get(ctx, c, path, params, &part); err != nil {
			return err
		}
		maps.Copy(all, part)
	}
	text := func(w io.Writer) { fields(w, all) }
	var bucket json.RawMessage
	if err := daemon.Get(ctx, c, cloudPath+"/cloud", params, &bucket); err != nil {
		return err
	}
	if len(bucket) > 0 && string(bucket) != "null" {
		if text, err = showBucket(ctx, c, name, all, bucket); err != nil {
			return err
		}
	}
	return o.Print(all, text)
}

// showBucket adds what is known of the bucket to all, and returns what prints it
// for people.
func showBucket(ctx context.Context, c *admin.Client, name string, all map[string]json.RawMessage, raw json.RawMessage) (func(io.Writer), error) {
	var b tier.Stats
	if err := json.Unmarshal(raw, &b); err != nil {
		return nil, fmt.Errorf("what the node says of the bucket of '%s': %w", name, err)
	}
	var bills []stores.Bill
	if err := daemon.Get(ctx, c, "/holdfast/s3", nil, &bills); err != nil {
		return nil, err
	}
	rest := maps.Clone(all)
	all["cloud"] = raw
	return func(w io.Writer) {
		fields(w, rest)
		printBucket(w, b)
		for _, bill := range bills {
			if slices.Contains(bill.Datastores, name) {
				printBill(w, bill)
			}
		}
	}, nil
}

// fields prints what is short enough for a line, in order of name.
func fields(w io.Writer, all map[string]json.RawMessage) {
	for _, key := range slices.Sorted(maps.Keys(all)) {
		value := string(all[key])
		var text string
		if json.Unmarshal(all[key], &text) == nil {
			value = text
		}
		if value != "" && value != "null" {
			fmt.Fprintf(w, "%-20s %s\n", key, value)
		}
	}
}

// printBucket prints what is known of a bucket without asking it.
func printBucket(w io.Writer, b tier.Stats) {
	line := func(what, format string, args ...any) {
		fmt.Fprintf(w, "%-20s %s\n", what, fmt.Sprintf(format, args...))
	}
	line("home", "%s", b.Bucket)
	dead := 0.0
	if b.Bytes > 0 {
		dead = 100 * float64(b.Dead) / float64(b.Bytes)
	}
	line("in the bucket", "%s in %s, %.0f %% of it dead", cli.Size(b.Bytes), cli.Count(b.Packs, "pack"), dead)
	if b.Condemned > 0 {
		line("condemned", "%s more, which nothing needs: it is billed until its time is over and a garbage collection deletes it", cli.Size(b.Condemned))
	}
	line("owner", "%s, epoch %d", cmp.Or(b.Owner, "not known yet"), b.Epoch)
	if b.ReadOnly != "" {
		line("read-only", "%s", b.ReadOnly)
	}
	line("pending uploads", "%s", cli.Count(b.Waiting, "pack"))
	if !b.Held.IsZero() {
		line("held", "garbage that is locked, or billed anyway, until %s at the latest; %d packs wait to be deleted", b.Held.Local().Format(time.DateOnly), b.Buried)
	}
	if b.Lost > 0 {
		line("LOST", "%s that the bucket should have", cli.Count(b.Lost, "pack"))
	}
	if b.Cache.Bound == 0 {
		line("cache", "none")
		return
	}
	line("cache", "%s of %s, %d hits and %d misses since the start", cli.Size(b.Cache.Used), cli.Size(b.Cache.Bound), b.Cache.Hits, b.Cache.Misses)
}

// printBill prints what the endpoint of a datastore was asked this month.
func printBill(w io.Writer, b stores.Bill) {
	var parts []string
	for _, class := range slices.Sorted(maps.Keys(b.SoFar.Requests)) {
		if n := b.SoFar.Requests[class]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, class))
		}
	}
	of := ""
	if len(b.Datastores) > 1 {
		of = ", by all datastores of endpoint " + b.ID
	}
	fmt.Fprintf(w, "%-20s %s%s; %s down, %s up\n", "requests this month", cmp.Or(strings.Join(parts, ", "), "none"), of, cli.Size(b.SoFar.In), cli.Size(b.SoFar.Out))
	if b.Provider == "" {
		fmt.Fprintf(w, "%-20s not known: holdfast s3 endpoint update %s --provider …\n", "cost", b.ID)
		return
	}
	fmt.Fprintf(w, "%-20s %.2f %s so far this month, %.2f at its end (%s)\n", "cost", b.Cost.Total(), b.Currency, b.WillCost.Total(),
		strings.TrimSpace(b.Provider+" "+b.PricesOf))
}
