package pbstest

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/holdfast-mesh/holdfast/chunks"
)

const octets = "application/octet-stream"

// want sends a request that has to succeed.
func (c *Client) want(method, target, kind string, body []byte) error {
	a, err := c.Do(method, target, kind, body)
	if err == nil && a.Status != http.StatusOK {
		err = fmt.Errorf("%d %s", a.Status, a.Body)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, target, err)
	}
	return nil
}

// BackUpBlob makes a backup of one small file, and ends it. group is
// "host/g1" and at the time in seconds.
func (c *Client) BackUpBlob(group, at, name, text string) error {
	blob, err := chunks.Encode(nil, []byte(text), chunks.EncodeOptions{})
	if err != nil {
		return err
	}
	if err := c.want(http.MethodPost, fmt.Sprintf("/blob?file-name=%s&encoded-size=%d", name, len(blob)), octets, blob); err != nil {
		return err
	}
	typ, id, _ := strings.Cut(group, "/")
	manifest, err := chunks.Encode(nil, fmt.Appendf(nil,
		`{"backup-type":%q,"backup-id":%q,"backup-time":%s,"files":[{"filename":%q,"crypt-mode":"none","size":%d,"csum":%q}],"unprotected":{}}`,
		typ, id, at, name, len(blob), chunks.Sum(blob)), chunks.EncodeOptions{})
	if err != nil {
		return err
	}
	if err := c.want(http.MethodPost, fmt.Sprintf("/blob?file-name=index.json.blob&encoded-size=%d", len(manifest)), octets, manifest); err != nil {
		return err
	}
	return c.want(http.MethodPost, "/finish", "", nil)
}

// PutChunk uploads a plain chunk of a dynamic index.
func (c *Client) PutChunk(wid int, content []byte) (Answer, error) {
	blob, err := chunks.Encode(nil, content, chunks.EncodeOptions{})
	if err != nil {
		return Answer{}, err
	}
	target := fmt.Sprintf("/dynamic_chunk?wid=%d&digest=%s&size=%d&encoded-size=%d", wid, chunks.Sum(content), len(content), len(blob))
	return c.Do(http.MethodPost, target, octets, blob)
}
