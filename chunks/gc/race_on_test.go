//go:build race

package gc

// racing: under the race detector everything takes ten times as long.
const racing = true
