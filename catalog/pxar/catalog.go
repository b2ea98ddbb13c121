package pxar

import (
	"io"

	"github.com/holdfast-mesh/holdfast/catalog/pxar/pcat1"
)

// The catalog that lists what the archives of a backup hold, under the names
// that go with the archives. Its format is in package pcat1.
type (
	CatalogWriter = pcat1.Writer
	Catalog       = pcat1.Reader
	CatalogEntry  = pcat1.Entry
	CatalogType   = pcat1.Type
)

// The types of entries in a catalog.
const (
	CatalogDir         = pcat1.Dir
	CatalogFile        = pcat1.File
	CatalogSymlink     = pcat1.Symlink
	CatalogHardlink    = pcat1.Hardlink
	CatalogBlockDevice = pcat1.BlockDevice
	CatalogCharDevice  = pcat1.CharDevice
	CatalogFifo        = pcat1.Fifo
	CatalogSocket      = pcat1.Socket
)

// NewCatalogWriter begins a catalog on w ([pcat1.NewWriter]).
func NewCatalogWriter(w io.Writer) (*CatalogWriter, error) { return pcat1.NewWriter(w) }

// OpenCatalog opens the catalog of size bytes in r ([pcat1.Open]).
func OpenCatalog(r io.ReaderAt, size int64) (*Catalog, error) {
	return pcat1.Open(r, size)
}
