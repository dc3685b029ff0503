// Broadcast with `ws`: node ws_server.js PORT.
const { WebSocket, WebSocketServer } = require("../../build/bench/node_modules/ws");

const server = new WebSocketServer({
  host: "127.0.0.1",
  port: Number(process.argv[2]),
  perMessageDeflate: false,
});

server.on("connection", (sender) => {
  sender.on("error", () => {});
  sender.on("message", (message, binary) => {
    for (const client of server.clients) {
      if (client !== sender && client.readyState === WebSocket.OPEN) {
        client.send(message, { binary });
      }
    }
  });
});
