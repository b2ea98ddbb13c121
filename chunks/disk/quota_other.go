//go:build !linux

package disk

func quotas(string) []Quota { return nil }
