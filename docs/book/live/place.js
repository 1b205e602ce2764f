// The other language opens where this one is read: its headings are the same, in the same order.
(() => {
  const mark = "#heading-";
  const headings = [...document.querySelectorAll("article :is(h1, h2, h3, h4)")];
  document.querySelector(".languages a").addEventListener("click", (event) => {
    const above = headings.filter((one) => one.getBoundingClientRect().top < innerHeight / 3);
    event.currentTarget.hash = above.length > 1 ? mark + above.length : "";
  });
  if (location.hash.startsWith(mark)) {
    const heading = headings[Number(location.hash.slice(mark.length)) - 1];
    heading?.scrollIntoView({ behavior: "instant" }); // what is loaded later would stop a smooth one
  }
})();
