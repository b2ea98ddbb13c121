package bucket

import (
	"net/url"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

func TestAddressing(t *testing.T) {
	acc, err := NewAccount(AccountConfig{Key: "k", Secret: "s"})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		endpoint, region string
		path             bool
		want             string // "": refused
	}{
		{"s3.example.com", "eu", false, "https://b.s3.example.com"},
		{"s3.example.com", "eu", true, "https://s3.example.com/b"},
		{"https://{{bucket}}.s3.{{region}}.example.com", "eu", false, "https://b.s3.eu.example.com"},
		{"https://s3.{{region}}.example.com:9000/base/", "auto", true, "https://s3.auto.example.com:9000/base/b"},
		{"", "eu-west-1", false, "https://b.s3.eu-west-1.amazonaws.com"},
		{"http://127.0.0.1:9000", "us-east-1", true, "http://127.0.0.1:9000/b"},
		{"ftp://s3.example.com", "eu", false, ""},
		{"https://{{nothing}}.example.com", "eu", false, ""},
		{"https://user:secret@example.com", "eu", false, ""},
		{"s3.example.com", "", false, ""},
	}
	for _, tt := range tests {
		b, err := New(Config{Endpoint: tt.endpoint, Region: tt.region, Bucket: "b", PathStyle: tt.path, Account: acc})
		if err != nil {
			if tt.want != "" {
				t.Errorf("%q: %v", tt.endpoint, err)
			}
			continue
		}
		got, err := b.client.Options().EndpointResolverV2.ResolveEndpoint(t.Context(), s3.EndpointParameters{})
		if err != nil || got.URI.String() != tt.want {
			t.Errorf("%q in %q, path style %t: %s, %v, want %q", tt.endpoint, tt.region, tt.path, got.URI.String(), err, tt.want)
		}
	}
	for _, prefix := range []string{"/a", "a//b"} {
		if _, err := New(Config{Region: "r", Bucket: "b", Prefix: prefix, Account: acc}); err == nil {
			t.Errorf("prefix %q was accepted", prefix)
		}
	}
}

// FuzzEndpoint: whatever an operator writes is a URL or an error.
func FuzzEndpoint(f *testing.F) {
	f.Add("https://{{bucket}}.s3.{{region}}.example.com", "b", "r")
	f.Add("::", "", "{{")
	f.Fuzz(func(t *testing.T, endpoint, bucket, region string) {
		base, _, err := Config{Endpoint: endpoint, Bucket: bucket, Region: region}.baseURL()
		if err != nil {
			return
		}
		if _, err := url.Parse(base.String()); err != nil || strings.Contains(base.String(), "{{") || base.Host == "" {
			t.Errorf("%q became %q: %v", endpoint, base, err)
		}
	})
}
