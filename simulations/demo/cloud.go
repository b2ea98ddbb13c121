package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/usage"
)

const (
	cloudStore = "cloud"
	cacheMiB   = 64
)

// A provider is an S3 store as one can be rented: a server of its own, and
// somebody between who counts requests as a bill does.
type provider struct {
	proxy *cloudtest.Proxy
	site  *site // whose datastore has its home there
	kept  int   // chunks that it keeps
	stop  func()
}

// rent starts the S3 server.
func (d *demo) rent() error {
	fmt.Println("  an S3 server of its own; the first time it has to be built, which takes some minutes")
	binary, err := cloudtest.Build()
	if err != nil {
		return err
	}
	server, end, err := cloudtest.Run(binary, filepath.Join(d.dir, "provider"))
	if err != nil {
		return err
	}
	proxy, endProxy, err := cloudtest.NewProxy(server.URL)
	if err != nil {
		end()
		return err
	}
	d.cloud = provider{proxy: proxy, stop: func() { endProxy(); end() }}
	return nil
}

// end ends the server.
func (p *provider) end() {
	if p.stop != nil {
		p.stop()
	}
}

// cloudSite is a site more, which keeps its backups in a bucket.
func (d *demo) cloudSite(ctx context.Context) error {
	if err := d.rent(); err != nil {
		return err
	}
	for _, s := range d.sites {
		if s.node.ProcessState != nil { // it led, and was killed
			if err := d.run(ctx, s); err != nil {
				return err
			}
		}
	}
	if err := d.wait(ctx, 2*time.Minute, "the sites that are left have a leader", func() bool {
		q := status(d.at(ctx, d.alive(), "status", "--output-format", "json"))
		return q.Quorum && q.Leader != "" && q.Leader != "home"
	}); err != nil {
		return err
	}
	s, err := d.joinAs(ctx, "cloud")
	if err != nil {
		return err
	}
	if err := d.knows(ctx, s); err != nil {
		return err
	}
	if err := d.inBucket(ctx, s, "--encrypt", "--offload-after", "0"); err != nil {
		return err
	}
	for _, who := range []string{user, tokenID} {
		if _, err := d.must(d.at(ctx, s, "acl", "update", "/datastore/"+cloudStore, "DatastoreBackup", "--auth-id", who)); err != nil {
			return err
		}
	}
	if s.client, err = d.mayBackUp(ctx, s, cloudStore); err != nil {
		return err
	}
	d.cloud.site = s
	d.token = s.client
	for _, id := range [][]string{{"demo"}, {"secret", "--keyfile", d.key()}} {
		if _, _, err := d.backup(ctx, id[0], id[1:]...); err != nil {
			return err
		}
	}
	if err := d.offload(ctx); err != nil {
		return err
	}
	return d.examined(ctx)
}

// examined shows what the doctor says of the bucket, and of one that its owner has set
// up as badly as people do. No server for tests knows such settings: who stands
// between answers for it.
func (d *demo) examined(ctx context.Context) error {
	check := func(name string) (status int, out string, err error) {
		return d.holdfast(d.at(ctx, d.cloud.site, "s3", "endpoint", "check", "rented", cloudtest.Name, "--store-prefix", name))
	}
	status, out, err := check("home")
	if err != nil {
		return err
	}
	if status != 0 {
		return fmt.Errorf("the doctor finds fault with a good bucket:\n%s", out)
	}
	d.cloud.proxy.On(misconfigured)
	defer d.cloud.proxy.On(nil)
	if status, out, err = check("home"); err != nil {
		return err
	}
	for _, want := range []string{"GLACIER", "deletes objects", "keeps all versions", "lets anybody in"} {
		if status == 0 || !strings.Contains(out, want) {
			return fmt.Errorf("the doctor does not say %q of a bucket that would lose backups", want)
		}
	}
	d.say("the doctor has nothing against the bucket, and refuses it as its owner might have set it up: %d findings, each with its cure", strings.Count(out, "-> "))
	return nil
}

// misconfigured answers what a provider would whose customer wanted to save money.
func misconfigured(r cloudtest.Request) *cloudtest.Fault {
	if r.HTTP.Method != http.MethodGet {
		return nil
	}
	for question, answer := range map[string]string{
		"lifecycle":    `<LifecycleConfiguration><Rule><ID>cheaper</ID><Status>Enabled</Status><Filter><Prefix></Prefix></Filter><Transition><Days>14</Days><StorageClass>GLACIER</StorageClass></Transition><Expiration><Days>365</Days></Expiration></Rule></LifecycleConfiguration>`,
		"versioning":   `<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>`,
		"policyStatus": `<PolicyStatus><IsPublic>true</IsPublic></PolicyStatus>`,
	} {
		if r.HTTP.URL.Query().Has(question) {
			return &cloudtest.Fault{Reply: answer}
		}
	}
	return nil
}

// inBucket gives a site an S3 endpoint and a datastore in its bucket.
func (d *demo) inBucket(ctx context.Context, s *site, flags ...string) error {
	endpoint := d.at(ctx, s, "s3", "endpoint", "create", "rented", "--endpoint", d.cloud.proxy.URL, "--access-key", cloudtest.Key, "--path-style",
		"--prices", "storage=0.023,put=0.005,list=0.005,get=0.0004,egress=0.09")
	endpoint.Env = append(endpoint.Env, "HOLDFAST_S3_SECRET="+cloudtest.Secret)
	if _, err := d.must(endpoint); err != nil {
		return err
	}
	_, err := d.must(d.at(ctx, s, append([]string{"datastore", "create", cloudStore, "--s3", "rented", "--bucket", cloudtest.Name, "--prefix", "home",
		"--cache-dir", filepath.Join(d.dir, s.name+"-store"), "--cache-size", fmt.Sprint(cacheMiB, "MiB"), "--recovery-key", d.recovery()}, flags...)...))
	return err
}

func (d *demo) recovery() string { return filepath.Join(d.dir, "recovery.key") }

// offload moves everything to the bucket, and says what that costs.
func (d *demo) offload(ctx context.Context) error {
	d.cloud.proxy.Reset()
	if _, err := d.must(d.at(ctx, d.cloud.site, "datastore", "offload", cloudStore)); err != nil {
		return err
	}
	requests := d.cloud.proxy.Total()
	var st struct {
		Cloud struct{ Chunks, Packs, Bytes int }
	}
	if err := d.ask(d.at(ctx, d.cloud.site, "datastore", "show", cloudStore, "--output-format", "json"), &st); err != nil {
		return err
	}
	d.cloud.kept = st.Cloud.Chunks
	if d.cloud.kept == 0 {
		return errors.New("the bucket has no chunks")
	}
	d.say("offload: %d chunks (%s) went to the bucket as %d packs with %d requests; as one object each they would have been %d",
		d.cloud.kept, size(int64(st.Cloud.Bytes)), st.Cloud.Packs, requests, d.cloud.kept)
	if err := d.foretold(ctx, requests); err != nil {
		return err
	}

	// What is read back passes the cache, which keeps its bound.
	d.cloud.proxy.Reset()
	if err := d.restoreTo(ctx, "from-site", d.client, "host/demo"); err != nil {
		return err
	}
	used, err := onDisk(filepath.Join(d.dir, d.cloud.site.name+"-store", "cloud", "cache"))
	if err != nil {
		return err
	}
	if used > cacheMiB<<20 {
		return fmt.Errorf("the cache takes %s on the disk, and may take %d MiB", size(used), cacheMiB)
	}
	d.say("restore through the cloud site: %d requests; its cache takes %s of %d MiB on the disk", d.cloud.proxy.Total(), size(used), cacheMiB)
	return nil
}

// foretold shows what the offload was to ask of the provider beside what it asked, as
// the node counted it and as the provider did.
func (d *demo) foretold(ctx context.Context, billed int) error {
	if _, err := d.must(d.at(ctx, d.cloud.site, "s3", "endpoint", "runs", "rented")); err != nil {
		return err
	}
	var runs []usage.Run
	if err := d.ask(d.at(ctx, d.cloud.site, "s3", "endpoint", "runs", "rented", "--output-format", "json"), &runs); err != nil {
		return err
	}
	if len(runs) == 0 || runs[0].Forecast == nil {
		return errors.New("nothing was forecast")
	}
	sum := func(made map[string]int64) (n int64) {
		for _, k := range made {
			n += k
		}
		return n
	}
	said, made := sum(runs[0].Forecast.Requests), sum(runs[0].Made.Requests)
	if off := max(said-made, made-said); 20*off > made {
		return fmt.Errorf("%d requests were forecast, and %d made", said, made)
	}
	d.say("before it began, %d requests and %s were forecast; the node counted %d and %s, the provider %d requests",
		said, size(runs[0].Forecast.Out), made, size(runs[0].Made.Out), billed)
	return nil
}

// onDisk sums up the blocks of files, as du does.
func onDisk(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			n += st.Blocks * 512
		}
		return nil
	})
	return n, err
}

// restoreTo restores a snapshot of everything and compares it with the sources.
func (d *demo) restoreTo(ctx context.Context, name string, as func(context.Context, ...string) *exec.Cmd, from string, flags ...string) error {
	out := filepath.Join(d.dir, name)
	if err := os.Mkdir(out, 0o700); err != nil {
		return err
	}
	for _, archive := range [][2]string{{"tree.pxar", "tree"}, {"disk.img", "disk.img"}, {"guest.conf", "guest.conf"}} {
		args := append([]string{"restore", from, archive[0], filepath.Join(out, archive[1])}, flags...)
		if _, err := d.must(as(ctx, args...)); err != nil {
			return err
		}
	}
	if err := d.same(ctx, out); err != nil {
		return err
	}
	fmt.Printf("  %s: tree, image and file are identical\n", from)
	return os.RemoveAll(out) // the disk may be small
}

// allLost kills every node and removes all that the sites had. The bucket and
// the recovery key are left.
func (d *demo) allLost(context.Context) error {
	for _, s := range d.all() {
		_ = s.node.Process.Kill() // one of them is dead already
		_ = s.node.Wait()
		for _, dir := range []string{s.dir, s.name + "-store"} {
			if err := os.RemoveAll(filepath.Join(d.dir, dir)); err != nil {
				return err
			}
		}
		fmt.Printf("  killed %s, and removed all that it had\n", s.name)
	}
	d.sites = nil
	return os.RemoveAll(d.store())
}

// fromBucket restores from the bucket alone, without a node, and then builds a
// new one on it.
func (d *demo) fromBucket(ctx context.Context) error {
	p := &d.cloud
	repository := "s3://" + cloudtest.Name + "/home?path-style=1"
	nobody := func(ctx context.Context, args ...string) *exec.Cmd {
		return d.command(ctx, append(args, "--repository", repository, "--recovery-key-file", d.recovery()),
			"AWS_ACCESS_KEY_ID="+cloudtest.Key, "AWS_SECRET_ACCESS_KEY="+cloudtest.Secret, "AWS_ENDPOINT_URL="+p.proxy.URL)
	}
	p.proxy.Reset()
	if _, err := d.must(nobody(ctx, "snapshot", "list")); err != nil {
		return err
	}
	listed := p.proxy.Total()
	p.proxy.Reset()
	for _, from := range [][]string{{"host/demo"}, {"host/secret", "--keyfile", d.key()}} {
		if err := d.restoreTo(ctx, "from-bucket", nobody, from[0], from[1:]...); err != nil {
			return err
		}
	}
	d.say("every site was lost: from the bucket and the recovery key alone everything came back byte for byte, with %d requests; one for each chunk would be more than %d", p.proxy.Total(), p.kept)
	p.proxy.Reset()
	if err := d.rebuilt(ctx); err != nil {
		return err
	}
	d.say("the list of snapshots took %d requests, a new node with all of them %d, probing the provider included", listed, p.proxy.Total())
	return nil
}

// rebuilt makes a new node that goes on with the datastore of the bucket.
func (d *demo) rebuilt(ctx context.Context) error {
	s, err := d.newSite("again")
	if err != nil {
		return err
	}
	mesh, err := freePort()
	if err != nil {
		return err
	}
	if _, err := d.must(d.at(ctx, s, "node", "init", "--name", s.name, "--site", s.name, "--listen", s.address, "--mesh-listen", fmt.Sprintf("127.0.0.1:%d", mesh))); err != nil {
		return err
	}
	d.sites = append(d.sites, s)
	if err := d.run(ctx, s); err != nil {
		return err
	}
	if err := d.inBucket(ctx, s, "--reuse", "--take-over"); err != nil {
		return err
	}
	out, err := d.must(d.at(ctx, s, "snapshot", "list", "--store", cloudStore))
	if err != nil {
		return err
	}
	if !strings.Contains(out, "host/demo") || !strings.Contains(out, "host/secret") {
		return errors.New("the new node does not have the snapshots")
	}
	return d.wait(ctx, time.Minute, "the new node owns the bucket", func() bool {
		var st struct{ Cloud struct{ Owner string } }
		return d.ask(d.at(ctx, s, "datastore", "show", cloudStore, "--output-format", "json"), &st) == nil && st.Cloud.Owner == s.name
	})
}
