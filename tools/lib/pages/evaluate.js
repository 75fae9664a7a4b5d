"use strict";
// The page of an evaluation: sorts the rows of images.

const { orders } = JSON.parse(find("data").textContent);

// Puts the rows of images into an order: indices of the rows as they were written.
function sortRows(body, rows, order) {
  body.append(...order.map((index) => rows[index]));
}

// Fills the list of orders and follows it.
function start() {
  const body = document.querySelector("#rows tbody");
  const rows = [...body.rows];
  const select = find("sort");
  select.append(...orders.map(({ label }, index) => element("option", { value: index }, label)));
  select.addEventListener("change", () => sortRows(body, rows, orders[select.value].order));
  find("sorting").hidden = false;
}

start();
