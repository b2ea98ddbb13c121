package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
	"github.com/holdfast-mesh/holdfast/pbs/client"
)

// speed is a result in bytes per second, as proxmox-backup-client prints it.
type speed struct {
	Speed float64 `json:"speed"`
}

// benchmarkResult has the names that proxmox-backup-client gives them.
type benchmarkResult struct {
	TLS        *speed `json:"tls,omitempty"`
	Hash       speed  `json:"sha256"`
	Compress   speed  `json:"compress"`
	Decompress speed  `json:"decompress"`
	Encrypt    speed  `json:"aes256_gcm"`
	Verify     speed  `json:"verify"`
}

func newBenchmark(o *cli.Options) *cobra.Command {
	return &cobra.Command{
		Use: "benchmark", Short: "measure this machine, and the way to a server", Args: cli.NoArgs,
		Long: `It measures for some seconds each how fast this machine hashes, compresses,
encrypts and verifies, on one core, and how fast data gets to the server. Nothing
is kept there.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			repo, err := client.ParseRepository(o.Repository)
			if o.Repository != "" && err != nil {
				return cli.Usage(errors.New("--repository names a server: [[USER@REALM[!TOKEN]@]HOST[:PORT]:]STORE"))
			}
			local, err := client.MeasureLocal(cmd.Context(), client.ComputeTime)
			if err != nil {
				return err
			}
			r := benchmarkResult{Hash: speed{local.Hash}, Compress: speed{local.Compress}, Decompress: speed{local.Decompress}, Encrypt: speed{local.Encrypt}, Verify: speed{local.Verify}}
			if o.Repository != "" {
				c, err := o.Client(repo)
				if err != nil {
					return err
				}
				defer c.Close()
				upload, err := c.Benchmark(cmd.Context(), client.UploadTime)
				if err != nil {
					return err
				}
				r.TLS = &speed{upload}
			}
			return o.Print(r, func(w io.Writer) { benchmarkText(w, r) })
		},
	}
}

func benchmarkText(w io.Writer, r benchmarkResult) {
	line := func(what string, s speed) { fmt.Fprintf(w, "%-36s %10s/s\n", what, cli.Size(int64(s.Speed))) }
	if r.TLS != nil {
		line("upload to the server, through TLS", *r.TLS)
	}
	line("SHA-256 of chunks", r.Hash)
	line("compression, zstd level 1", r.Compress)
	line("decompression", r.Decompress)
	line("encryption, AES-256-GCM", r.Encrypt)
	line("decompression and verification", r.Verify)
	fmt.Fprintf(w, "each on one core, for %s\n", client.ComputeTime.Round(time.Second))
}
