// Echo in Go: net's own sockets, a goroutine a connection, a buffer of 64 KiB that is used again. It runs on one
// processor, as all servers here do. Go sets TCP_NODELAY itself, and raises its limit of descriptors.
package main

import (
	"fmt"
	"log"
	"net"
	"runtime"
)

func echo(conn net.Conn) {
	defer conn.Close()
	buffer := make([]byte, 65536)
	for {
		got, err := conn.Read(buffer)
		if err != nil {
			return
		}
		if _, err := conn.Write(buffer[:got]); err != nil {
			return
		}
	}
}

func main() {
	runtime.GOMAXPROCS(1)
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("port", listener.Addr().(*net.TCPAddr).Port)
	for {
		conn, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go echo(conn)
	}
}
