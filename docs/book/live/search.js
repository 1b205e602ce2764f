// The search box: Pagefind's own, in the language of the page. In its index each Chinese character is
// a word (docs/book/site.py), so that a run of them is looked for as a phrase.
const processTerm = (term) =>
  term.replace(/[\u4e00-\u9fff]{2,}/g, (run) => ` "${[...run].join(" ")}" `).trim();
new PagefindUI({ element: "#search", showImages: false, showSubResults: true, processTerm });
