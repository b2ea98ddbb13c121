//go:build !race

package gc

const racing = false
